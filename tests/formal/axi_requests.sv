// The read address channel: whatever the ports want, one of them is granted at a time, its burst appears on the bus once, in
// the order of the grants, and stays until it is taken.
module harness (
  input clk, input reset, input [`PORTS-1:0] requests, input [32*`PORTS-1:0] offsets, bases,
  input [8*`PORTS-1:0] lengths, input arready
);
  wire [`PORTS-1:0] granted;
  wire arvalid;
  wire [3:0] arid, arcache;
  wire [31:0] araddr;
  wire [7:0] arlen;
  wire [2:0] arsize, arprot;
  wire [1:0] arburst;
  axi_requests dut (.*);

  reg [3:0] port;
  reg [31:0] address;
  reg [7:0] length;
  integer i;
  always @* begin
    port = 0;
    address = 0;
    length = 0;
    for (i = 0; i < `PORTS; i = i + 1)
      if (granted[i]) begin
        port = i;
        address = bases[32*i +: 32] + offsets[32*i +: 32];
        length = lengths[8*i +: 8];
      end
  end

  // At most two bursts are granted and not taken: the older one first.
  reg running = 0;
  reg [32*`PORTS-1:0] bases_before;
  always @(posedge clk) bases_before <= bases;
  reg [1:0] count = 0;
  reg [43:0] older, newer;
  wire takes = arvalid && arready;
  wire grants = granted != 0;
  always @(posedge clk) begin
    running <= 1;
    if (running) begin
      count <= count + grants - takes;
      if (takes || count == 0) older <= count == 2 ? newer : {port, address, length};
      if (grants && count - takes == 1) newer <= {port, address, length};
    end
  end

  wire kept;
  offer #(44) bursts (clk, reset, arvalid, arready, {arid, araddr, arlen}, kept);
  always @* begin
    assume (reset == !running);
    assume (!running || bases == bases_before); // the host sets them before a run
    if (running) begin
      assert (kept);
      assert ((granted & ~requests) == 0 && (granted & (granted - 1'b1)) == 0);
      assert (!grants || count < 2 || takes);
      assert (!arvalid || count != 0);
      if (arvalid) assert ({arid, araddr, arlen} == older);
    end
  end

  // What makes the induction close.
  (* hierconn *) wire \dut.waiting , \dut.shown ;
  (* hierconn *) wire [2:0] \dut.picked , \dut.turn ;
  (* hierconn *) wire [31:0] \dut.picked_base , \dut.picked_offset ;
  (* hierconn *) wire [7:0] \dut.picked_length ;
  wire [43:0] picked = {1'b0, \dut.picked , \dut.picked_base + \dut.picked_offset , \dut.picked_length };
  always @* if (running) begin
    assert (count == \dut.waiting + \dut.shown && \dut.turn < `PORTS);
    if (\dut.waiting ) assert (picked == (\dut.shown ? newer : older));
  end
endmodule
