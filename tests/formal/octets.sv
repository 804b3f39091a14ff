// A map as weights of the array, followed at one weight of one column, any. The octets of a step come beat by beat: a
// pixel for each column, or across: a channel of each row's pixel for each column; a word of activations is two beats.
// Then eight words leave, as the stream asks for them, the highest bit of the weights first, with their complements; no
// octet is lost or taken twice. Otherwise the memory's words are passed on, and neither overtakes the other.
module harness (
  input clk, input reset, input compute_job, input compute_ready, input weight_job, input weight_ready,
  input operand, input post, input across, input [2:0] first, input octets_ready, input octets_read,
  input [128*`ROWS-1:0] octets_word, input memory_en, input [31:0] memory_addr,
  input outside_ready, input outside_valid, input [16*`ROWS-1:0] outside_data
);
  wire halt = 0;
  wire room, memory_ready, memory_valid, outside_en;
  wire [31:0] outside_addr;
  wire [16*`ROWS-1:0] memory_data;
  operands dut (.*);

  (* anyconst *) wire [$clog2(`ROWS)-1:0] column;
  (* anyconst *) wire [2:0] weight;
  reg loading = 0, turned, own = 0; // octets are taken, across; the weight stream's words are ours
  reg [2:0] channel; // of an octet, that column 0 takes across
  reg [1:0] hand = 0; // beats of the word that is shown
  reg [1:0] beat = 0;
  reg full = 0, answers = 0, running = 0;
  reg [2:0] sent = 0, shown;
  reg [7:0] value, answered; // of the weight
  reg [15:0] flying = 0;
  reg [128*`ROWS-1:0] held;
  reg holds = 0;
  wire begins = compute_job && compute_ready && operand && post;
  wire takes = hand != 0 && !full;
  wire sends = own && memory_en && memory_ready;
  wire [64*`ROWS-1:0] half = hand == 2 ? octets_word[64*`ROWS-1:0] : octets_word[128*`ROWS-1:64*`ROWS];
  // Where the weight comes from: in which beat, which row's pixel, which channel.
  wire [1:0] in_beat = turned ? weight / `ROWS : 0;
  wire [$clog2(`ROWS)-1:0] pixel = turned ? weight % `ROWS : column;
  wire [2:0] at = turned ? channel + column : weight;
  wire [7:0] unsigned_value = half >> 64 * pixel + 8 * at;
  always @(posedge clk) begin
    running <= 1;
    holds <= !octets_read;
    held <= octets_word;
    if (!reset) begin
      if (compute_job && compute_ready) loading <= begins;
      if (begins) {turned, channel} <= {across, first};
      if (weight_job && weight_ready) own <= operand;
      hand <= begins ? 0 : octets_read && loading ? 2 : hand - takes;
      if (takes) begin
        beat <= beat == (turned ? 8 / `ROWS - 1 : 0) ? 0 : beat + 1;
        full <= beat == (turned ? 8 / `ROWS - 1 : 0);
        if (beat == in_beat) value <= unsigned_value - 128;
      end
      answers <= sends;
      shown <= sent;
      answered <= value;
      if (sends) begin
        sent <= sent + 1;
        if (sent == 7) full <= 0;
      end
      if (begins) {beat, full, sent} <= 0;
      flying <= flying + (outside_en && outside_ready) - outside_valid;
    end
  end
  wire [15:0] column_data = memory_data >> 16 * column;
  always @* begin
    assume (reset == !running);
    assume (!outside_valid || flying != 0);
    assume (flying < 1000);
    assume (!octets_read || room);
    assume (!holds || octets_word == held);
    assume (!begins || (!full && !(octets_read && loading))); // what came before is used up
    assume (!begins || !across || first + `ROWS <= 8);
    if (running) begin
      assert (room == (octets_ready && (hand == 0 || (hand == 1 && !full))));
      assert (memory_ready == (own ? full && flying == 0 : outside_ready));
      assert (outside_en == (memory_en && !own) && outside_addr == memory_addr);
      assert (memory_valid == (answers || outside_valid) && !(answers && outside_valid));
      if (outside_valid) assert (memory_data == outside_data);
      if (answers) assert (column_data[weight] == answered[7 - shown] && column_data[8 + weight] == !answered[7 - shown]);
    end
  end

  (* hierconn *) wire \dut.loading , \dut.turned , \dut.own , \dut.filled , \dut.answer ;
  (* hierconn *) wire [1:0] \dut.at_hand ;
  (* hierconn *) wire [5:0] \dut.beat , \dut.first_bit ;
  (* hierconn *) wire [2:0] \dut.sent ;
  (* hierconn *) wire [16:0] \dut.flying ;
  (* hierconn *) wire [63:0] \dut.operand_column0.held , \dut.operand_column1.held ;
  (* hierconn *) wire [63:0] \dut.operand_column2.held , \dut.operand_column3.held ;
  wire [255:0] columns = {
    \dut.operand_column3.held , \dut.operand_column2.held , \dut.operand_column1.held , \dut.operand_column0.held
  };
  wire [7:0] rest = columns >> 64 * column + 8 * weight;
  // The bits that are still to be shown are the weight's; behind them are those of other weights.
  wire [2:0] gone = sent - answers;
  wire [7:0] unlike = rest ^ (value << gone);
  always @* if (running) begin
    assert (\dut.loading == loading && \dut.own == own && \dut.at_hand == hand && hand <= 2 && \dut.beat == beat);
    assert (\dut.filled == full && \dut.sent == sent && \dut.answer == answers && \dut.flying == flying);
    if (loading || hand != 0 || full || beat != 0) begin
      assert (\dut.turned == turned && \dut.first_bit == 8 * channel && (!turned || channel + `ROWS <= 8));
    end
    assert (beat <= (turned ? 8 / `ROWS - 1 : 0) && (!full || beat == 0));
    assert (full || sent == 0);
    assert (!answers || flying == 0);
    if (full) begin
      assert (!answers || (sent != 0 && shown == sent - 1 && answered == value));
      assert (unlike >> gone == 0);
    end else if (answers) assert (beat == 0 && shown == 7 && rest[7] == answered[0]);
    else if (beat > in_beat) assert (rest == value);
  end
endmodule
