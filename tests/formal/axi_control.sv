// The registers and the runs that they command. `read_index` has any value, but the same one at all times: what holds of
// it holds of each, for what is read follows from it at once.
module harness (
  input clk, input reset, input write, input [9:0] write_index, input [31:0] write_data, input [3:0] write_strobe,
  input [9:0] read_index, input done, input [3:0] error, input written, input [6:0] stalled, input asked, received,
  input read_failed, write_failed
);
  wire [31:0] read_data;
  wire start, stopping, irq;
  wire [15:0] first, count;
  wire [223:0] bases;
  axi_control dut (.*);

  reg running = 0; // out of reset
  reg [9:0] place; // of the register that is read
  always @(posedge clk) begin
    running <= 1;
    place <= read_index;
  end
  always @* begin
    assume (reset == !running);
    assume (!running || read_index == place);
  end

  // A run is busy from its start on. It ends when the accelerator is done and has written all, or else with abort or
  // watchdog: the accelerator is then stopped for two cycles at least, until all is answered.
  wire control = write && write_index == `CONTROL && write_strobe[0];
  wire acknowledged = write && write_index == `STATUS && write_strobe[0] && write_data[1];
  reg busy = 0, over = 0, halted = 0, long = 0; // long: halted in the cycle before, too
  reg finished = 0, enabled = 0, starting = 0, bad_read = 0, bad_write = 0;
  reg [3:0] code = 0;
  reg [31:0] open = 0; // bursts that are not answered
  (* hierconn *) wire [31:0] \dut.limit , \dut.command ;
  reg [63:0] age = 0; // cycles of the run
  wire begins = control && write_data[0] && !busy && !halted;
  wire aborted = control && write_data[2] && busy;
  wire expired = busy && \dut.limit != 0 && age >= \dut.limit ;
  wire answered = halted && long && open == 0 && written;
  always @(posedge clk) if (running) begin
    starting <= begins;
    if (control) enabled <= write_data[1];
    open <= open + asked - received;
    halted <= aborted || expired || (halted && !answered);
    long <= halted && !answered;
    if (begins) age <= 0; else age <= age + busy;
    if (begins) begin
      {busy, finished, code, bad_read, bad_write} <= {1'b1, 1'b0, 4'd0, 1'b0, 1'b0};
    end else if (aborted || expired) begin
      {busy, over, finished, code} <= {1'b0, 1'b0, 1'b1, aborted ? 4'd `ABORTED : 4'd `EXPIRED};
    end else begin
      if (done && !halted) code <= error;
      over <= (over && !written) || (done && !halted);
      if (over && written) {busy, finished} <= 2'b01;
      else if (acknowledged) finished <= 0;
      bad_read <= bad_read || read_failed;
      bad_write <= bad_write || write_failed;
    end
  end

  // The accelerator is done once for each start, and not while it is stopped; the bus answers what was asked.
  always @* begin
    assume (!done || (busy && !over && !starting && !halted));
    assume (!received || open != 0);
    assume (!asked || open != 32'hffffffff);
  end

  (* hierconn *) wire \dut.running , \dut.finishing , \dut.ended , \dut.enabled , \dut.starting , \dut.stops ;
  (* hierconn *) wire \dut.settled , \dut.read_bad , \dut.write_bad ;
  (* hierconn *) wire [3:0] \dut.code ;
  (* hierconn *) wire [31:0] \dut.pending ;
  (* hierconn *) wire [63:0] \dut.cycles , \dut.busy_cycles ;
  always @* if (running) begin
    assert (\dut.running == busy && \dut.finishing == over && \dut.ended == finished && \dut.enabled == enabled);
    assert (\dut.starting == starting && \dut.stops == halted && \dut.settled == long && \dut.code == code);
    assert (\dut.read_bad == bad_read && \dut.write_bad == bad_write && \dut.pending == open && \dut.cycles == age);
    assert (!over || busy);
    assert (!halted || !busy);
    assert (!long || halted);
  end

`ifdef PROVE_RUN
  reg was_busy = 0, may_end = 0, was_halted = 0, may_go_on = 0;
  always @(posedge clk) begin
    was_busy <= running && busy;
    may_end <= aborted || expired || (over && written);
    was_halted <= running && halted;
    may_go_on <= was_halted && open == 0 && written;
  end
  always @* if (running) begin
    assert (start == starting && first == \dut.command [15:0] && count == \dut.command [31:16]);
    assert (!start || (busy && !halted)); // it begins a run of an accelerator that is not stopped
    assert (stopping == halted);
    assert (irq == (finished && enabled));
    assert (!was_busy || busy || (finished && may_end)); // no run ends by itself
    assert (!was_halted || halted || may_go_on); // nor goes on before all is answered
    if (read_index == `CONTROL) assert (read_data == {30'd0, enabled, 1'b0});
    if (read_index == `STATUS)
      assert (read_data == {20'd0, code, 3'd0, halted, bad_write, bad_read, finished, busy});
  end
`endif

`ifdef PROVE_REGISTERS
  // What is written is read, by its strobes and in the bits that the register has; other registers are constant.
  wire [9:0] memory = (read_index - `BASES) >> 2;
  wire base = read_index >= `BASES && read_index < `BASES + 32 && read_index[1:0] == 0 && memory != `LACKING;
  wire whole = read_index == `COMMAND || read_index == `WATCHDOG;
  wire [31:0] bits = whole ? 32'hffffffff : base ? 32'hfffff000 : 0;
  wire [31:0] marked = {{8{write_strobe[3]}}, {8{write_strobe[2]}}, {8{write_strobe[1]}}, {8{write_strobe[0]}}};
  reg [31:0] kept = 0;
  always @(posedge clk)
    if (running && write && write_index == read_index) kept <= bits & ((kept & ~marked) | (write_data & marked));
  wire [2:0] port = memory == 7 ? 6 : memory; // of the bases
  always @* if (running) begin
    if (bits != 0) assert (read_data == kept);
    if (base) assert (bases[32*port +: 32] == kept);
    if (read_index == `COMMAND) assert ({count, first} == kept);
    if (read_index == 0) assert (read_data == 32'd `ID);
    if (read_index == 1) assert (read_data == 32'd `VERSION);
    if (read_index == 2) assert (read_data == 32'd `SIZE);
    if (read_index == `FEATURES) assert (read_data == 32'd `FEATURE_BITS);
    if (read_index == `BUILD) assert (read_data == 32'd `BUILD_HASH);
    if (read_index >= `BASES + 32 || (read_index >= `BASES && memory == `LACKING)) assert (read_data == 0);
  end
`endif

`ifdef PROVE_COUNTERS
  // Cycles of the last run, and of all; cycles of the last run in which a memory waits, the output's also at the end.
  wire [9:0] memory = (read_index - `BASES) >> 2;
  wire waits = memory == 7 ? stalled[6] || over : memory < `LACKING && stalled[memory];
  reg [63:0] total = 0;
  reg [31:0] lost = 0;
  always @(posedge clk) if (running) begin
    total <= total + busy;
    lost <= begins ? 0 : lost + waits;
  end
  always @* if (running) begin
    assert (\dut.busy_cycles == total);
    if (read_index == `CYCLES) assert (read_data == age[31:0]);
    if (read_index == `CYCLES + 1) assert (read_data == age[63:32]);
    if (read_index == `CYCLES + 2) assert (read_data == total[31:0]);
    if (read_index == `CYCLES + 3) assert (read_data == total[63:32]);
    if (read_index >= `BASES && read_index < `BASES + 32 && read_index[1:0] == `STALLS && memory != `LACKING)
      assert (read_data == lost);
  end
`endif
endmodule
