// An operand stream between a memory that takes requests and answers them, in order, whenever it likes, and a reader that
// keeps the rules (sequencer.sv and drain_control.sv prove that ours do). Words are counted from reset, and one of them,
// any, is followed.
module harness (
  input clk, input reset, input job, input [31:0] base, input [31:0] count,
  input memory_ready, input memory_valid, input [`BEAT-1:0] memory_data,
  input read, input rewind, input discard, input halt
);
  wire job_ready, memory_en, ready, quiet;
  wire [31:0] memory_addr;
  wire [`WIDTH-1:0] word;
  stream dut (.*);

  // A job's words that are to be asked for: the next address, and how many.
  reg [31:0] next = 0, left = 0;
  // A word is asked for, or there, with its last beat.
  reg beat_asked = 0, beat_there = 0;
  reg [31:0] asked = 0, there = 0, cursor = 0, tail = 0;
  wire request = memory_en && memory_ready;
  wire last_asked = request && beat_asked == `BEATS - 1;
  wire arrives = memory_valid && beat_there == `BEATS - 1;
  wire [31:0] under_way = `BEATS * (asked - there) + beat_asked - beat_there;
  // The word that is followed.
  (* anyconst *) wire [31:0] number;
  reg [`WIDTH-1:0] content, shown;
  reg due = 0, holds = 0, waiting = 0, running = 0;
  always @(posedge clk) begin
    running <= 1;
    if (!reset) begin
      if (job && job_ready) begin
        next <= base;
        left <= count;
      end
      if (request) begin
        next <= next + 1;
        left <= left - 1;
        beat_asked <= beat_asked + (`BEATS - 1);
        if (last_asked) asked <= asked + 1;
      end
      if (memory_valid) begin
        if (there == number) content <= {memory_data, content} >> `BEAT;
        beat_there <= beat_there + (`BEATS - 1);
        if (arrives) there <= there + 1;
      end
      if (read) begin
        cursor <= rewind ? tail : cursor + 1;
        if (discard) tail <= cursor + 1;
      end
    end
    waiting <= !reset && memory_en && !memory_ready;
    due <= !reset && read && cursor == number;
    holds <= !read;
    shown <= word;
  end

  wire kept;
  offer #(32) requests (clk, reset, memory_en, memory_ready, memory_addr, kept);
  always @* begin
    assume (reset == !running);
    assume (!memory_valid || under_way != 0);
    assume (!read || ready);
    assume (!read || !rewind || !discard);
    assume (count % `BEATS == 0);
    assume (asked < 32'h7fffffff);
    if (running) begin
      // The job's words are fetched in order, no more and no fewer, as soon as there is room, and what is asked for holds.
      assert (job_ready == (left == 0));
      assert (!memory_en || memory_addr == next);
      assert (memory_en == (left != 0 && (beat_asked != 0 || asked - tail < `DEPTH) && (!halt || waiting)));
      assert (kept);
      assert (quiet == (under_way == 0 && !waiting));
      // Never more than there is room for, words under way included; ready when there is a word; the word is the one that was fetched.
      assert (asked + beat_asked - tail <= `DEPTH);
      assert (ready == (cursor < there + arrives));
      if (due) assert (word == content);
      if (holds) assert (word == shown);
    end
  end

  // What makes the induction close: how the stream's registers hang together with the counts above.
  (* hierconn *) wire [$clog2(`DEPTH):0] \dut.requested , \dut.head , \dut.tail , \dut.cursor ;
  (* hierconn *) wire [31:0] \dut.remaining , \dut.address ;
  (* hierconn *) wire \dut.waiting , \dut.more , \dut.there , \dut.full ;
  (* hierconn *) wire [`WIDTH-1:0] \dut.ram0.memory[0] , \dut.ram0.memory[1] , \dut.ram0.memory[2] , \dut.ram0.memory[3] ;
  wire [4*`WIDTH-1:0] memory = {
    \dut.ram0.memory[3] , \dut.ram0.memory[2] , \dut.ram0.memory[1] , \dut.ram0.memory[0]
  };
  always @* if (running) begin
    assert (\dut.remaining == left && (left == 0 || \dut.address == next) && \dut.waiting == waiting);
    assert (\dut.more == (left != 0));
    assert (\dut.there == (cursor != there) && \dut.full == (asked - tail == `DEPTH));
    assert (\dut.requested == asked % (2 * `DEPTH) && \dut.head == there % (2 * `DEPTH));
    assert (\dut.cursor == cursor % (2 * `DEPTH) && \dut.tail == tail % (2 * `DEPTH));
    assert (tail <= cursor && cursor <= there + arrives && there <= asked && under_way <= `BEATS * `DEPTH);
    assert (left % `BEATS == beat_asked);
    assert (!waiting || (left != 0 && (beat_asked != 0 || asked - tail < `DEPTH)));
    assert (!due || number < there);
    if (number >= tail && number < there) assert (memory[`WIDTH * (number % `DEPTH) +: `WIDTH] == content);
  end
`ifdef BEATS_2
  (* hierconn *) wire \dut.half , \dut.arriving_half ;
  (* hierconn *) wire [`BEAT-1:0] \dut.low ;
  always @* if (running) begin
    assert (\dut.half == beat_asked && \dut.arriving_half == beat_there);
    if (beat_there == 1 && there == number) assert (content[`WIDTH-1:`BEAT] == \dut.low );
  end
`endif
endmodule
