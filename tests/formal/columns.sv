// From a bit column through scheduler and sub-group to the sum of the activations under its ones. Column and activations
// are held. The activations' sum is that of the ones and that of the zeros: see operands.sv and whole.sv.
module harness (input clk, input [1:0] part);
  (* anyconst *) wire [5:0] rest;
  wire [7:0] bits = {rest, part};
  (* anyconst *) wire [63:0] x;
  wire enable = 1;
  wire [11:0] choice;
  wire invert;
  wire [10:0] ones, zeros, selected;
  wire [10:0] total = ones + zeros;
  column_sum dense (x, bits, ones, zeros);
  scheduler choosing (.*);
  subgroup dut (.*);

  wire known;
  later #(`SUMS - `BITS, 1) edges (clk, enable, 1'b1, known);
  always @* if (known) assert (selected == ones);
endmodule
