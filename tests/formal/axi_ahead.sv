// Words ahead of their use: they are fetched once, in the order of the jobs, and each is given once, in that order; what is
// asked for holds until it is taken, and there is room for all of it, whatever comes late. One of the jobs and one of the
// words, any, are followed.
module harness (
  input clk, input reset, input job, input [3:0] base, input [2:0] count, input [3:0] error, input en,
  input memory_ready, input memory_valid, input [`WIDTH-1:0] memory_data, input pick_job, input pick_word
);
  wire ready, valid, quiet, memory_en;
  wire [`WIDTH-1:0] data;
  wire [31:0] memory_addr;
  axi_ahead dut (.*);

  // The accelerator's own: jobs that wait, the one that is next, words of the one that is fetched.
  (* hierconn *) wire [1:0] \dut.head , \dut.tail ;
  (* hierconn *) wire [6:0] \dut.front , \dut.ram0.memory[0] , \dut.ram0.memory[1] ;
  (* hierconn *) wire \dut.offered , \dut.closed , \dut.pops , \dut.taken , \dut.stream0.more , \dut.stream0.waiting ;
  (* hierconn *) wire [31:0] \dut.stream0.remaining , \dut.stream0.address ;
  (* hierconn *) wire [2:0] \dut.here , \dut.stream0.requested , \dut.stream0.head , \dut.stream0.tail , \dut.stream0.cursor ;
  wire [1:0] queued = \dut.head - \dut.tail ;

  // Words: of the jobs told, not asked for; asked for, not there; there, not taken.
  reg [5:0] promised = 0;
  reg [2:0] on_way = 0, held = 0;
  wire request = memory_en && memory_ready;
  wire takes = en && ready;
  wire [2:0] room = `DEPTH - on_way - held;
  // The job that is followed: words that come before its own, its next address, how many it still has; where it is.
  localparam WAITS = 0, NEXT = 1, FETCHED = 2;
  reg follows = 0, slot;
  reg [1:0] where;
  reg [5:0] before;
  reg [4:0] address;
  reg [2:0] left;
  // The word that is followed, and how many are taken before it.
  wire comes = memory_valid && pick_word && !has;
  wire [2:0] earlier = has ? ahead : held;
  reg has = 0, due = 0;
  reg [2:0] ahead;
  reg [`WIDTH-1:0] content, shown;
  // shut: there was room for no more, and since then none for a burst.
  reg running = 0, holds = 0, took = 0, shut = 0, failed = 0, waiting = 0, wanted = 0;
  always @(posedge clk) begin
    running <= 1;
    shown <= data;
    holds <= !takes;
    if (running) begin
      promised <= promised + (job ? count : 0) - request;
      on_way <= on_way + request - memory_valid;
      held <= held + memory_valid - takes;
      if (job && pick_job && !follows && count != 0) begin
        follows <= 1;
        where <= WAITS;
        slot <= \dut.head [0];
        before <= promised - request;
        address <= base;
        left <= count;
      end else if (follows) begin
        if (where == WAITS && \dut.pops && slot == \dut.tail [0]) where <= NEXT;
        if (where == NEXT && \dut.taken ) where <= FETCHED;
        if (request && before != 0) before <= before - 1;
        else if (request) begin
          address <= address + 1;
          left <= left - 1;
          follows <= left != 1;
        end
      end
      if (comes) content <= memory_data;
      has <= (has || comes) && !(takes && earlier == 0);
      due <= (has || comes) && takes && earlier == 0;
      ahead <= earlier - takes;
      took <= takes;
      wanted <= en && !ready;
      shut <= room == 0 || (shut && room < `TOGETHER);
      failed <= error != 0;
      waiting <= memory_en && !memory_ready;
    end
  end

  wire kept;
  offer #(32) requests (clk, reset, memory_en, memory_ready, memory_addr, kept);
  always @* begin
    assume (reset == !running);
    assume (!job || queued < `JOBS);
    assume (!memory_valid || on_way != 0);
    assume (error != 0 || !failed);
    assume (en || !wanted); // a request holds
    if (running) begin
      // Nothing is asked for that no job has, and what is asked for is the next word of its job.
      assert (!memory_en || promised != 0);
      if (follows && memory_en && before == 0) assert (memory_addr == address);
      assert (kept);
      // There is room for all that is asked for; after it was full, for a burst. With room, a job goes on.
      assert (on_way + held <= `DEPTH && (!memory_en || room != 0));
      assert (!memory_en || failed || !shut);
      if (follows && where == FETCHED && room != 0 && !shut && !failed) assert (memory_en);
      // After an error no more than is asked of it, but for what waits; and that is.
      assert (!failed || memory_en || !\dut.stream0.waiting );
      assert (!failed || !memory_en || en || \dut.stream0.waiting );
      assert (quiet == (on_way == 0 && !\dut.stream0.waiting ));
      // Words are given one by one, in the order in which they came, and hold.
      assert (ready == (held != 0 || memory_valid));
      assert (valid == took);
      if (due) assert (data == content);
      if (holds) assert (data == shown);
    end
  end

  // What makes the induction close: where a job is, and how many words the jobs have that are not asked for.
  wire [6:0] oldest = \dut.tail [0] ? \dut.ram0.memory[1] : \dut.ram0.memory[0] ;
  wire [6:0] newest = \dut.tail [0] ? \dut.ram0.memory[0] : \dut.ram0.memory[1] ;
  wire [5:0] now = \dut.stream0.remaining ;
  wire [5:0] next = now + (\dut.offered ? \dut.front [2:0] : 0);
  wire [5:0] then = next + (queued != 0 ? oldest[2:0] : 0);
  wire second = slot != \dut.tail [0];
  (* hierconn *) wire [`WIDTH-1:0] \dut.stream0.ram0.memory[0] , \dut.stream0.ram0.memory[1] ;
  (* hierconn *) wire [`WIDTH-1:0] \dut.stream0.ram0.memory[2] , \dut.stream0.ram0.memory[3] ;
  wire [4*`WIDTH-1:0] memory = {
    \dut.stream0.ram0.memory[3] , \dut.stream0.ram0.memory[2] ,
    \dut.stream0.ram0.memory[1] , \dut.stream0.ram0.memory[0]
  };
  wire [1:0] place = \dut.stream0.tail + ahead;
  (* hierconn *) wire \dut.stream0.there , \dut.stream0.full , \dut.wanted , \dut.failed ;
  always @* if (running) begin
    assert (queued <= 2 && \dut.stream0.remaining < 8 && \dut.stream0.more == (now != 0));
    assert (promised == then + (queued == 2 ? newest[2:0] : 0));
    if (follows) begin
      assert (left != 0 && where <= FETCHED && (where == FETCHED || address < 16) && address + left < 32);
      if (where == WAITS) begin
        assert (queued > second && {address[3:0], left} == (second ? newest : oldest));
        assert (before == (second ? then : next));
      end
      if (where == NEXT) assert (\dut.offered && {address[3:0], left} == \dut.front && before == now);
      if (where == FETCHED) assert (before == 0 && left == now && \dut.stream0.address == address);
    end
    assert (\dut.here == on_way + held && \dut.closed == shut);
    assert (\dut.stream0.head == \dut.stream0.tail + held && \dut.stream0.requested == \dut.stream0.head + on_way);
    assert (\dut.stream0.cursor == \dut.stream0.tail && \dut.wanted == wanted && \dut.failed == failed);
    assert (\dut.stream0.there == (held != 0) && \dut.stream0.full == (on_way + held == `DEPTH));
    assert (!waiting || \dut.stream0.waiting );
    assert (!\dut.stream0.waiting || (now != 0 && room != 0));
    assert (!shut || !waiting || failed);
    if (has) assert (ahead < held && memory[`WIDTH * place +: `WIDTH] == content);
  end
endmodule
