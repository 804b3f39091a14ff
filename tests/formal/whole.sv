// Whatever the column, the sum of the ones and the sum of the zeros make the sum of all: no hardware, but the arithmetic
// that columns.sv and operands.sv leave to each other. An activation an edge, any number of them.
module harness (input clk, input one, input [7:0] x);
  reg [10:0] ones = 0, zeros = 0, all = 0;
  always @(posedge clk) begin
    if (one) ones <= ones + x;
    else zeros <= zeros + x;
    all <= all + x;
  end
  always @* assert (all == ones + zeros);
endmodule
