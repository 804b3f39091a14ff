// The write channels: an address or a beat that is not taken stays as it is; nothing is under way once all is said to be
// written.
module harness (
  input clk, input reset, input [`LANES-1:0] valid, input [32*`LANES-1:0] addr, input [8*`LANES*`ROWS-1:0] data,
  input [31:0] base, input awready, wready, bvalid
);
  wire ready, written, awvalid, wvalid, wlast;
  wire [3:0] awid, awcache;
  wire [31:0] awaddr;
  wire [7:0] awlen, wstrb;
  wire [2:0] awsize, awprot;
  wire [1:0] awburst;
  wire [63:0] wdata;
  axi_write dut (.*);

  wire aw_kept, w_kept;
  offer #(32) addresses (clk, reset, awvalid, awready, awaddr, aw_kept);
  offer #(73) beats (clk, reset, wvalid, wready, {wdata, wstrb, wlast}, w_kept);

  // Bursts whose address was taken, whose last beat was taken, that were answered.
  reg running = 0;
  reg [31:0] placed = 0, sent = 0, answered = 0;
  always @(posedge clk) begin
    running <= 1;
    if (running) begin
      placed <= placed + (awvalid && awready);
      sent <= sent + (wvalid && wready && wlast);
      answered <= answered + bvalid;
    end
  end
  (* hierconn *) wire [7:0] \dut.outstanding ;
  (* hierconn *) wire \dut.left ;
  always @* begin
    assume (reset == !running);
    assume (!bvalid || (answered != placed && answered != sent));
    if (running) begin
      assert (aw_kept && w_kept);
      assert (placed + awvalid == sent + wvalid);
      assert (placed + awvalid - answered == \dut.outstanding );
      assert (placed - answered <= 255 && sent - answered <= 255);
      assert (\dut.left == 0); // a beat a word
      if (written) assert (ready && placed == answered && sent == answered);
    end
  end
endmodule
