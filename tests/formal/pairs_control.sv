// What an array column's pairs elements share, with stalls: of each pair of two bit columns the line of its ones, the
// shift, the digit of d; each comes where the elements need it.
module harness (
  input clk, input enable, input [31:0] bits, input [7:0] metadata,
  input low_phase, input high_phase, input [2:0] significance
);
  wire [47:0] picks;
  wire [1:0] fine;
  wire [3:0] size;
  wire coarse, minus, high;
  pairs_control dut (.*);

  wire [31:0] bits2;
  wire [7:0] group1;
  wire known2, known3, known4, high4;
  later #(`CHOICES - `WORDS, 33) columns (clk, enable, {1'b1, bits}, {known2, bits2});
  later #(`PHASES - `WORDS, 8) groups (clk, enable, metadata, group1);
  wire signed [5:0] d1 = group1[5:0];
  wire signed [2:0] low1 = d1[2:0];
  wire signed [6:0] rest1 = d1 - low1;
  wire signed [3:0] digit1 = low_phase ? low1 : high_phase ? rest1 >>> 3 : 0;
  wire [2:0] shift1 = significance - group1[7:6], shift3, shift4;
  wire signed [3:0] digit4;
  later #(`SUMS - `CHOICES, 1) third (clk, enable, known2, known3);
  later #(`SUMS - `PHASES, 3) shifts (clk, enable, shift1, shift3);
  later #(`TOTAL - `PHASES, 8) digits (clk, enable, {shift1, digit1, high_phase}, {shift4, digit4, high4});
  wire [3:0] size4;
  later #(`TOTAL - `SUMS, 5) sizes (clk, enable, {known3, size}, {known4, size4});
  wire signed [3:0] found4 = size4[0] ? 1 : size4[1] ? 2 : size4[2] ? 3 : size4[3] ? 4 : 0;
  integer p;
  always @* begin
    if (known2)
      for (p = 0; p < 16; p = p + 1)
        assert (picks[3*p +: 3] == {bits2[2*p] && bits2[2*p+1], bits2[2*p+1] && !bits2[2*p], bits2[2*p] && !bits2[2*p+1]});
    if (known3) assert (fine == shift3[1:0] && (size & (size - 4'd1)) == 0);
    if (known4) assert (coarse == shift4[2] && high == high4 && (minus ? -found4 : found4) == digit4);
  end
endmodule
