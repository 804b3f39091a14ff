// The register channels, behind a host that keeps AXI's rules: each request gets one response, which stays until it is
// taken, with what the registers said; a register is written once for each address and data.
module harness (
  input clk, input reset, input [11:0] awaddr, araddr, input awvalid, wvalid, bready, arvalid, rready,
  input [2:0] awprot, arprot, input [31:0] wdata, input [3:0] wstrb, input [31:0] read_data
);
  wire awready, wready, bvalid, arready, rvalid, write;
  wire [1:0] bresp, rresp;
  wire [31:0] rdata, write_data;
  wire [9:0] write_index, read_index;
  wire [3:0] write_strobe;
  axi_lite dut (.*);

  reg running = 0, answering = 0, showing = 0;
  reg [31:0] word;
  always @(posedge clk) begin
    running <= 1;
    if (running) begin
      answering <= (awvalid && awready) || (answering && !bready);
      showing <= (arvalid && arready) || (showing && !rready);
      if (arvalid && arready) word <= read_data;
    end
  end

  wire aw_kept, w_kept, ar_kept;
  offer #(12) addresses (clk, reset, awvalid, awready, awaddr, aw_kept);
  offer #(36) words (clk, reset, wvalid, wready, {wdata, wstrb}, w_kept);
  offer #(12) reads (clk, reset, arvalid, arready, araddr, ar_kept);
  always @* begin
    assume (reset == !running);
    assume (aw_kept && w_kept && ar_kept);
    if (running) begin
      assert (awready == wready && write == awready);
      assert (!awready || (awvalid && wvalid));
      assert (!arready || arvalid);
      assert (bvalid == answering && !(awready && answering));
      assert (rvalid == showing && !(arready && showing));
      assert (bresp == 0 && rresp == 0);
      if (showing) assert (rdata == word);
      if (write) assert (write_index == awaddr[11:2] && write_data == wdata && write_strobe == wstrb);
      if (arready) assert (read_index == araddr[11:2]);
    end
  end
endmodule
