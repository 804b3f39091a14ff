// The scheduler, with stalls: what it shows is the choice of the column that entered it.
module harness (input clk, input enable, input [7:0] bits);
  wire [11:0] choice;
  wire invert;
  scheduler dut (.*);

  wire [7:0] column;
  wire known, right;
  later #(`CHOICES - `BITS, 9) columns (clk, enable, {1'b1, bits}, {known, column});
  selection chosen (column, choice, invert, right);
  always @* if (known) assert (right);
endmodule
