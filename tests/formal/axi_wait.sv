// A port waits where its next word is not taken, or where words were taken and none comes, however many there are.
module harness (input clk, input reset, input en, ready, valid);
  wire waits;
  axi_wait dut (.*);

  reg running = 0;
  reg [15:0] taken = 0, come = 0; // words, modulo what is never on its way
  wire [15:0] due = taken - come;
  always @(posedge clk) begin
    running <= 1;
    if (running) begin
      taken <= taken + (en && ready);
      come <= come + valid;
    end
  end
  always @* begin
    assume (reset == !running);
    assume (!valid || taken != come);
    assume (!(en && ready) || due != 16'hffff);
    if (running) assert (waits == ((en && !ready) || (taken != come && !valid)));
  end

  (* hierconn *) wire [15:0] \dut.due ;
  always @* if (running) assert (\dut.due == due);
endmodule
