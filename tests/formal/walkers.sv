// Two walkers, with walks that may do anything: a job restarts the one that waits, once until it is taken, and that one
// is then in use; only the one in use goes on, and its windows are shown.
module harness (
  input clk, input reset, input job, input take, input advance, input [311:0] walk,
  input [23:0] tap_word, input [15:0] tap_x, input [15:0] tap_y
);
  wire ready;
  wire [24*`ROWS-1:0] addresses;
  wire [`ROWS-1:0] present;
  walkers dut (.*);

  (* hierconn *) wire \dut.restart0 , \dut.restart1 , \dut.advance0 , \dut.advance1 , \dut.ready0 , \dut.ready1 ;
  (* hierconn *) wire [24*`ROWS-1:0] \dut.places0 , \dut.places1 ;
  (* hierconn *) wire [`ROWS-1:0] \dut.inside0 , \dut.inside1 ;
  reg used = 0, prepared = 0, running = 0; // number of the one in use; the other one has its job
  wire [1:0] restarts = {\dut.restart1 , \dut.restart0 }, advances = {\dut.advance1 , \dut.advance0 };
  always @(posedge clk) begin
    running <= 1;
    if (!reset) begin
      if (take) used <= !used;
      prepared <= !take && (prepared || job);
    end
  end
  (* hierconn *) wire \dut.second , \dut.begun ;
  always @* begin
    assume (reset == !running);
    if (running) begin
      assert (restarts == (job && !prepared ? (used ? 2'b01 : 2'b10) : 2'b00));
      assert (advances == (advance ? (used ? 2'b10 : 2'b01) : 2'b00));
      assert (ready == (used ? \dut.ready1 : \dut.ready0 ));
      assert (addresses == (used ? \dut.places1 : \dut.places0 ) && present == (used ? \dut.inside1 : \dut.inside0 ));
      assert (\dut.second == used && \dut.begun == prepared);
    end
  end
endmodule
