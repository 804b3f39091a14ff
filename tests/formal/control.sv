// What an array column's elements share, with stalls: the choices of both halves, the piece of d, the shift; each comes
// where the elements need it.
module harness (
  input clk, input enable, input [15:0] bits, input [7:0] metadata,
  input low_phase, input high_phase, input [2:0] significance
);
  wire [11:0] select_low, select_high;
  wire invert_low, invert_high, high, scale_high, coarse;
  wire [2:0] piece;
  wire [1:0] fine;
  column_control dut (.*);

  // At the choices' stage: the column, with both inversions as they will be; then all that belongs to it.
  wire [15:0] column2, column3;
  wire [11:0] low3, upper3;
  wire known3, right_low, right_high;
  later #(`CHOICES - `WORDS, 16) columns (clk, enable, bits, column2);
  later #(`SUMS - `CHOICES, 40) choices (
    clk, enable, {column2, select_low, select_high}, {column3, low3, upper3}
  );
  later #(`SUMS - `WORDS, 1) edges (clk, enable, 1'b1, known3);
  selection low (column3[7:0], low3, invert_low, right_low);
  selection upper (column3[15:8], upper3, invert_high, right_high);

  wire [7:0] group1;
  wire [2:0] shift3, shift4, piece3;
  wire high3, high4, known4;
  later #(`PHASES - `WORDS, 8) groups (clk, enable, metadata, group1);
  wire [2:0] shift1 = significance - group1[7:6];
  wire [2:0] piece1 = low_phase ? group1[2:0] : high_phase ? group1[5:3] : 3'd0;
  later #(`SUMS - `PHASES, 7) pieces (clk, enable, {shift1, piece1, high_phase}, {shift3, piece3, high3});
  later #(`TOTAL - `SUMS, 5) shifts (clk, enable, {known3, shift3, high3}, {known4, shift4, high4});
  always @* begin
    if (known3) assert (right_low && right_high && piece == piece3 && high == high3 && fine == shift3[1:0]);
    if (known4) assert (coarse == shift4[2] && scale_high == high4);
  end
endmodule
