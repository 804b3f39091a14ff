// The write channels: an address or a beat that is not taken stays as it is; a burst has the beats that its address says, and
// stays within a page of 4 KiB; nothing is under way once all is said to be written.
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
  offer #(40) addresses (clk, reset, awvalid, awready, {awaddr, awlen}, aw_kept);
  offer #(73) beats (clk, reset, wvalid, wready, {wdata, wstrb, wlast}, w_kept);

  // Lanes that were taken, and bursts: those whose address was taken, whose last beat was taken, that were answered.
  reg running = 0;
  reg [31:0] lanes = 0, placed = 0, sent = 0, answered = 0, promised = 0, moved = 0;
  wire [31:0] burst = awlen + 32'd1;
  integer i;
  reg [31:0] taken;
  always @* begin
    taken = 0;
    for (i = 0; i < `LANES; i = i + 1) taken = taken + (ready && valid[i]);
  end
  always @(posedge clk) begin
    running <= 1;
    if (running) begin
      lanes <= lanes + taken;
      placed <= placed + (awvalid && awready);
      promised <= promised + (awvalid && awready ? burst : 0);
      sent <= sent + (wvalid && wready && wlast);
      moved <= moved + (wvalid && wready);
      answered <= answered + bvalid;
    end
  end

  (* hierconn *) wire [7:0] \dut.outstanding ;
  (* hierconn *) wire [4:0] \dut.left , \dut.words , \dut.word_head , \dut.word_tail ;
  (* hierconn *) wire [5:0] \dut.held ;
  (* hierconn *) wire [31:0] \dut.origin , \dut.following ;
  (* hierconn *) wire \dut.gathering , \dut.beat_number , \dut.full ;
  (* hierconn *) wire [4:0] \dut.queued ;
  wire [5:0] held = \dut.held ;
  wire [4:0] distance = \dut.word_head - \dut.word_tail ;
  wire [31:0] gathered = \dut.gathering ? \dut.words : 0;
  wire [31:0] left = wvalid ? \dut.left : 0;
  wire [31:0] span = (\dut.origin * `STRIDE) % 4096 + 8 * \dut.words ;
  always @* begin
    assume (reset == !running);
    assume (!bvalid || (answered != placed && answered != sent));
    assume (base[11:0] == 0);
    if (running) begin
      assert (aw_kept && w_kept);
      assert (placed + awvalid == sent + wvalid);
      assert (placed + awvalid - answered == \dut.outstanding );
      assert (placed - answered <= 255 && sent - answered <= 255);
      assert (promised + (awvalid ? burst : 0) == moved + left);
      assert (!wvalid || (left != 0 && wlast == (left == 1)));
      assert (\dut.words <= `MOST && left <= `MOST && burst <= `MOST);
      assert (!awvalid || awaddr % 4096 + 8 * burst <= 4096);
      if (\dut.gathering ) begin
        assert (gathered != 0 && span <= 4096 && \dut.following == \dut.origin + \dut.words );
      end
      assert (held == gathered + (left == 0 ? 0 : left - 1));
      assert (\dut.beat_number == 0); // a beat a word
      assert (distance == held[4:0]);
      assert (\dut.queued <= 16 && \dut.full == (\dut.queued == 16));
      if (written) assert (ready && placed == answered && sent == answered && promised == moved);
    end
  end
endmodule
