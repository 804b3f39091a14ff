// A read port's bursts: words that follow each other, no more than may be, all of them in one page of 4 KiB; or, if words
// are padded, the beats of one word. And its words: the beats with its identifier, in the order in which they come.
module harness (
  input clk, input reset, input en, input [31:0] addr, input granted, input rvalid, input [3:0] rid, input [63:0] rdata
);
  wire ready, valid, request;
  wire [`WIDTH-1:0] data;
  wire [31:0] offset;
  wire [7:0] length;
`ifdef PADDED
  axi_read dut (.*);
`else
  axi_read_3 dut (.*);
`endif

  // The words taken since the last burst was granted.
  reg running = 0;
  reg [31:0] first = 0, words = 0;
  always @(posedge clk) begin
    running <= 1;
    if (running) begin
      if (granted) words <= 0;
      else if (en && ready) begin
        if (words == 0) first <= addr;
        words <= words + 1;
      end
    end
  end
  // The beats that came of a word, wherever others came between them, of which one, any, is followed; a word that is there,
  // which stays until the next begins.
  wire mine = rvalid && rid == `NUMBER;
  reg [31:0] came = 0;
  (* anyconst *) wire [3:0] one;
  reg [63:0] content;
  reg complete = 0, there = 0;
  localparam REST = `WIDTH - 64 * (`BEATS - 1); // bits of a word's last beat
  wire [64*`BEATS-1:0] whole = data;
  always @(posedge clk) if (running) begin
    complete <= mine && came == `BEATS - 1;
    there <= mine ? came == `BEATS - 1 : there;
    if (mine) begin
      came <= came == `BEATS - 1 ? 0 : came + 1;
      if (came == one) content <= rdata;
    end
  end

  wire [31:0] beats = words * `BEATS;
  wire [31:0] bytes = 8 * beats;
  wire [31:0] within = (first * `STRIDE) % 4096;

  (* hierconn *) wire \dut.gathering ;
  (* hierconn *) wire [31:0] \dut.origin , \dut.following ;
  (* hierconn *) wire [$clog2(`MOST + 1)-1:0] \dut.words ;
  (* hierconn *) wire [$clog2(`BEATS)-1:0] \dut.received ;
  (* hierconn *) wire [64*`BEATS-1:0] \dut.assembled ;
  always @* begin
    assume (reset == !running && one < `BEATS);
    assume (!granted || (request && !(en && ready)));
    if (running) begin
      assert (valid == complete);
      if (there && one != `BEATS - 1) assert (whole[64*one +: 64] == content);
      if (there && one == `BEATS - 1) assert (data[`WIDTH-1 -: REST] == content[REST-1:0]);
      if (en && ready && words != 0) assert (addr == first + words);
      if (request) assert (words != 0 && offset == first * `STRIDE && length + 32'd1 == beats);
      assert (words <= `MOST && within + bytes <= 4096);
      assert (\dut.gathering == (words != 0));
      if (words != 0) assert (\dut.origin == first && \dut.following == first + words && \dut.words == words);
      assert (\dut.received == came && came < `BEATS);
      if (there) assert (came == 0);
      if (there || one < came) // the last beat that came is the uppermost
        assert (\dut.assembled [64*((there ? 0 : `BEATS - came) + one) +: 64] == content);
    end
  end
endmodule
