// The system of soc/example for an FPGA: a PicoRV32 that boots from address 0, the accelerator, one memory of block RAM
// with a port for each of them. ACCELERATOR is the accelerator's name, BITS the width of its bus, RAM_BYTES the memory's
// size; what is at which address is as in soc/example, with lamps in the console's place.
module soc (input wire clk, output reg [7:0] lamps);

localparam integer BEAT = `BITS / 8;
localparam integer WORDS = `RAM_BYTES / BEAT;
localparam integer LOW = $clog2(BEAT), HIGH = $clog2(`RAM_BYTES);

reg [3:0] up = 0;
wire resetn = &up;
always @(posedge clk)
    if (!resetn)
        up <= up + 4'd1;

// ---- the processor ----

wire        mem_valid, trap, irq;
wire [31:0] mem_addr, mem_wdata;
wire [3:0]  mem_wstrb;
reg         mem_ready = 0, from_ram = 0;
wire [31:0] mem_rdata;

picorv32 #(
    .ENABLE_MUL(1), .ENABLE_DIV(1), .BARREL_SHIFTER(1), .COMPRESSED_ISA(0), .ENABLE_IRQ(1), .ENABLE_IRQ_TIMER(0),
    .LATCHED_IRQ(32'h0), .STACKADDR(`RAM_BYTES)
) processor (
    .clk(clk), .resetn(resetn), .trap(trap), .mem_valid(mem_valid), .mem_ready(mem_ready), .mem_addr(mem_addr),
    .mem_wdata(mem_wdata), .mem_wstrb(mem_wstrb), .mem_rdata(mem_rdata), .pcpi_wr(1'b0), .pcpi_rd(32'h0),
    .pcpi_wait(1'b0), .pcpi_ready(1'b0), .irq({28'h0, irq, 3'h0})
);

// ---- the accelerator ----

reg          awvalid = 0, wvalid = 0, bready = 0, arvalid = 0, rready = 0;
wire         awready, wready, bvalid, arready, rvalid;
wire [31:0]  rdata;
wire [31:0]  m_araddr, m_awaddr;
wire [7:0]   m_arlen;
wire [3:0]   m_arid, m_awid;
wire         m_arvalid, m_arready, m_awvalid, m_awready, m_wvalid, m_wready, m_wlast;
wire [`BITS - 1:0] m_wdata, m_rdata;
wire [BEAT - 1:0]  m_wstrb;
reg          m_rvalid = 0, m_rlast = 0, m_bvalid = 0;
reg  [3:0]   m_rid = 0, m_bid = 0;

`ACCELERATOR accelerator (
    .aclk(clk), .aresetn(resetn), .irq(irq),
    .s_axil_awaddr(mem_addr[11:0]), .s_axil_awprot(3'h0), .s_axil_awvalid(awvalid), .s_axil_awready(awready),
    .s_axil_wdata(mem_wdata), .s_axil_wstrb(mem_wstrb), .s_axil_wvalid(wvalid), .s_axil_wready(wready),
    .s_axil_bvalid(bvalid), .s_axil_bready(bready),
    .s_axil_araddr(mem_addr[11:0]), .s_axil_arprot(3'h0), .s_axil_arvalid(arvalid), .s_axil_arready(arready),
    .s_axil_rdata(rdata), .s_axil_rvalid(rvalid), .s_axil_rready(rready),
    .m_axi_arid(m_arid), .m_axi_araddr(m_araddr), .m_axi_arlen(m_arlen), .m_axi_arvalid(m_arvalid),
    .m_axi_arready(m_arready), .m_axi_rid(m_rid), .m_axi_rdata(m_rdata), .m_axi_rresp(2'b00), .m_axi_rlast(m_rlast),
    .m_axi_rvalid(m_rvalid), .m_axi_awid(m_awid), .m_axi_awaddr(m_awaddr), .m_axi_awvalid(m_awvalid),
    .m_axi_awready(m_awready), .m_axi_wdata(m_wdata), .m_axi_wstrb(m_wstrb), .m_axi_wlast(m_wlast),
    .m_axi_wvalid(m_wvalid), .m_axi_wready(m_wready), .m_axi_bid(m_bid), .m_axi_bresp(2'b00), .m_axi_bvalid(m_bvalid)
);

// ---- the memory: a byte of a beat in each lane, the processor's port and the bus's ----

wire is_ram = mem_addr < `RAM_BYTES;
wire is_registers = mem_addr[31:28] == 4'h4;
wire [HIGH - LOW - 1:0] own_place = mem_addr[HIGH - 1:LOW];
wire [BEAT - 1:0]       own_write;
wire [`BITS - 1:0]      own_read;
reg  [HIGH - LOW - 1:0] bus_place = 0;
wire [BEAT - 1:0]       bus_write;

genvar lane;
generate
    for (lane = 0; lane < BEAT; lane = lane + 1) begin : lanes
        // Nobody reads what the other one writes in the same cycle: the processor waits for the accelerator's end.
        (* no_rw_check *) reg [7:0] bytes [0:WORDS - 1];
        reg [7:0] own, bus;
        assign own_write[lane] = mem_valid && !mem_ready && is_ram && mem_wstrb[lane % 4]
            && (BEAT == 4 || mem_addr[LOW - 1:0] / 4 == lane / 4);
        always @(posedge clk)
            if (own_write[lane])
                bytes[own_place] <= mem_wdata[8 * (lane % 4) +: 8];
            else
                own <= bytes[own_place];
        always @(posedge clk)
            if (bus_write[lane])
                bytes[bus_place] <= m_wdata[8 * lane +: 8];
            else
                bus <= bytes[bus_place];
        assign own_read[8 * lane +: 8] = own;
        assign m_rdata[8 * lane +: 8] = bus;
    end
endgenerate

// ---- what the processor reads and writes ----

reg asked = 0;
reg [31:0] word = 0;
assign mem_rdata = from_ram ? own_read[32 * (mem_addr[LOW - 1:0] / 4) +: 32] : word;

always @(posedge clk) begin
    mem_ready <= 0;
    if (!resetn)
        asked <= 0;
    else if (mem_valid && !mem_ready) begin
        from_ram <= is_ram;
        if (is_registers) begin
            asked <= 1;
            if (!asked) begin
                {awvalid, wvalid, bready} <= {3{|mem_wstrb}};
                {arvalid, rready} <= {2{~|mem_wstrb}};
            end else begin
                if (awready)
                    awvalid <= 0;
                if (wready)
                    wvalid <= 0;
                if (arready)
                    arvalid <= 0;
                if ((bvalid && bready) || (rvalid && rready)) begin
                    {asked, bready, rready} <= 0;
                    mem_ready <= 1;
                    word <= rdata;
                end
            end
        end else begin
            mem_ready <= 1;
            if (!is_ram && |mem_wstrb)
                lamps <= mem_wdata[7:0];
        end
    end
end

// ---- the bus's port: one burst of reads or of writes at a time; the accelerator is always ready for what comes ----

reg       reading = 0, writing = 0;
reg [8:0] left = 0;
assign m_arready = resetn && !reading && !writing;
assign m_awready = m_arready && !m_arvalid;
assign m_wready = writing;
assign bus_write = writing && m_wvalid ? m_wstrb : 0;

always @(posedge clk) begin
    m_rvalid <= reading;
    m_rlast <= left == 1;
    m_bvalid <= writing && m_wvalid && m_wlast;
    if (reading || (writing && m_wvalid))
        bus_place <= bus_place + 1;
    if (reading) begin
        left <= left - 9'd1;
        reading <= left != 1;
    end
    if (writing && m_wvalid && m_wlast)
        writing <= 0;
    if (m_arvalid && m_arready) begin
        m_rid <= m_arid;
        bus_place <= m_araddr[HIGH - 1:LOW];
        left <= m_arlen + 9'd1;
        reading <= 1;
    end else if (m_awvalid && m_awready) begin
        m_bid <= m_awid;
        bus_place <= m_awaddr[HIGH - 1:LOW];
        writing <= 1;
    end
end

endmodule
