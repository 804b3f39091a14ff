// The dispatcher: `count` descriptors from `first` on are fetched, one when all nine units have taken the one before; each is
// offered to every unit until it takes it, and once. After an error nothing more is asked for or offered. A run ends
// with its last block, or after an error when nothing is under way.
module harness (
  input clk, input reset, input start, input [15:0] first, input [15:0] count, input failed, input quiet,
  input memory_ready, input memory_valid, input [8:0] unit_ready, input block_done
);
  wire busy, started, ended, memory_en;
  wire [31:0] memory_addr;
  wire [8:0] unit_job;
  dispatcher dut (
    .*,
    .weight_job(unit_job[0]), .metadata_job(unit_job[1]), .activation_job(unit_job[2]), .parameter_job(unit_job[3]),
    .index_job(unit_job[4]), .compute_job(unit_job[5]), .drain_job(unit_job[6]), .fetch_job(unit_job[7]),
    .store_job(unit_job[8]), .weight_ready(unit_ready[0]), .metadata_ready(unit_ready[1]),
    .activation_ready(unit_ready[2]), .parameter_ready(unit_ready[3]), .index_ready(unit_ready[4]),
    .compute_ready(unit_ready[5]), .drain_ready(unit_ready[6]), .fetch_ready(unit_ready[7]),
    .store_ready(unit_ready[8])
  );

  reg running = 0, active = 0; // out of reset; between start and end
  reg waiting = 0, awaited = 0, held = 0; // a request is on the port, its word is to come, is there
  reg [8:0] taken = 0;
  reg [15:0] address = 0; // of the next request
  reg [15:0] to_fetch = 0, to_finish = 0;
  reg begun = 0, wrong = 0;
  wire begins = start && !active;
  wire here = (memory_valid || held) && !failed;
  wire [8:0] takes = unit_job & unit_ready;
  wire all = here && (taken | takes) == 9'h1ff;
  wire asks = waiting || (begins && count != 0) || (all && to_fetch != 0);
  wire [15:0] place = begins ? first : address;
  wire [16:0] open = to_fetch + (waiting || awaited || held); // descriptors that not all units have taken
  wire ends = failed ? active && quiet && !waiting && !awaited : block_done && to_finish == 1;
  always @(posedge clk) begin
    running <= 1;
    waiting <= !reset && asks && !memory_ready;
    begun <= begins && count == 0;
    wrong <= !reset && failed && !begins;
    if (!reset) begin
      if (asks && memory_ready) begin
        awaited <= 1;
        address <= place + 1;
      end else begin
        address <= place;
        if (memory_valid) awaited <= 0;
      end
      held <= here && !all;
      taken <= begins || all ? 0 : here ? taken | takes : taken;
      if (begins) begin
        to_fetch <= count - 1;
        to_finish <= count;
        active <= 1;
      end else begin
        if (all && to_fetch != 0) to_fetch <= to_fetch - 1;
        if (block_done) to_finish <= to_finish - 1;
        if (ends) active <= 0;
      end
    end
  end

  wire kept;
  offer #(32) requests (clk, reset, memory_en, memory_ready, memory_addr, kept);
  always @* begin
    assume (reset == !running);
    assume (!memory_valid || awaited);
    assume (!block_done || (active && !begins && (failed || to_finish > open) && to_finish != 0));
    assume (!(wrong || begun) || failed); // an error stays until the next run, and a run of none is one
    if (running) begin
      assert (busy == active && started == begins && ended == ends);
      assert (unit_job == (here ? ~taken : 9'd0));
      assert (memory_en == asks && kept);
      if (memory_en) assert (memory_addr == place);
      assert (!awaited || !memory_en || (memory_valid && all)); // one word at a time
    end
  end

  (* hierconn *) wire \dut.active , \dut.waiting , \dut.expected , \dut.held ;
  (* hierconn *) wire [15:0] \dut.to_fetch , \dut.to_finish , \dut.address ;
  (* hierconn *) wire [8:0] \dut.taken ;
  always @* if (running) begin
    assert (\dut.active == active && \dut.waiting == waiting && \dut.expected == awaited && \dut.held == held);
    assert (\dut.to_fetch == to_fetch && \dut.to_finish == to_finish && \dut.address == address);
    assert (taken == \dut.taken );
    assert (waiting + awaited + held <= 1);
    assert (active || !(waiting || awaited || held));
    assert (held || failed || taken == 0);
    assert (failed || (to_finish >= open && active == (to_finish != 0)));
  end
endmodule
