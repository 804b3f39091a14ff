// What the harnesses of this folder share: delays, and models of what the hardware computes.

// d, N enabled edges later.
module later #(parameter N = 1, parameter W = 1) (input clk, input enable, input [W-1:0] d, output [W-1:0] q);
  generate
    if (N == 0) assign q = d;
    else begin
      reg [N*W-1:0] kept = 0;
      always @(posedge clk) if (enable) kept <= {kept, d};
      assign q = kept[N*W-1 -: W];
    end
  endgenerate
endmodule

// The sum of the activations under the ones of a column, in the order of the weights, and of those under its zeros.
module column_sum (input [63:0] x, input [7:0] bits, output reg [10:0] ones, output reg [10:0] zeros);
  integer i;
  always @* begin
    ones = 0;
    zeros = 0;
    for (i = 0; i < 8; i = i + 1)
      if (bits[i]) ones = ones + x[8*i +: 8];
      else zeros = zeros + x[8*i +: 8];
  end
endmodule

// Whether a scheduler's choices are a column's: of the ones, or of the zeros where these are fewer, each once and all.
module selection (input [7:0] bits, input [11:0] choice, input invert, output right);
  reg [7:0] taken;
  reg [3:0] ones;
  reg legal;
  integer i;
  always @* begin
    ones = 0;
    for (i = 0; i < 8; i = i + 1) ones = ones + bits[i];
    taken = 0;
    legal = 1;
    for (i = 0; i < 4; i = i + 1)
      if (choice[3*i +: 3] != 7) begin // 7 takes nothing
        if (choice[3*i +: 3] > 4 || taken[i + choice[3*i +: 3]]) legal = 0;
        taken[i + choice[3*i +: 3]] = 1;
      end
  end
  assign right = legal && invert == (ones > 4) && taken == (invert ? ~bits : bits);
endmodule
