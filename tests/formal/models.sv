// What the harnesses of this folder share: delays, and models of what the hardware computes. Stages are numbered as in
// docs/hardware.md; the macros are in claims.py.

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
    for (i = 0; i < 8; i = i + 1) begin
      ones = ones + (bits[i] ? x[8*i +: 8] : 8'd0);
      zeros = zeros + (bits[i] ? 8'd0 : x[8*i +: 8]);
    end
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

// What an element adds for a column, at the stage of its total: +-sum * 2^shift, and the constant's part.
module weighed (
  input clk, input enable, input [11:0] sum, input signed [16:0] offset, input [1:0] fine, // where sums are
  input negative, input scale_high, input coarse, // where they are added to the total
  output signed [31:0] term, output known
);
  wire [11:0] sum4;
  wire [1:0] fine4;
  wire signed [16:0] offset4;
  later #(`TOTAL - `SUMS, 32) operands (clk, enable, {1'b1, sum, offset, fine}, {known, sum4, offset4, fine4});
  wire signed [31:0] column = sum4 << {coarse, fine4};
  wire signed [31:0] more = scale_high ? offset4 <<< 3 : offset4;
  assign term = (negative ? -column : column) + more;
endmodule

// An accumulator: anew, added or held; captured, drained or held. `started`, `known`: total, result are determined.
module accumulated (
  input clk, input enable, input valid, input first, input signed [31:0] increment,
  input capture, input drain, input [31:0] behind,
  output reg [31:0] total, output reg started, output reg [31:0] result, output reg known
);
  initial started = 0;
  initial known = 0;
  always @(posedge clk) begin
    if (enable && valid) begin
      total <= first ? increment : total + increment;
      started <= first || started;
    end
    if (capture) begin
      result <= total;
      known <= started;
    end else if (drain) begin
      result <= behind;
      known <= 1;
    end
  end
endmodule

// A handshake's rule for who offers: what was offered and not taken is offered again, unchanged.
module offer #(parameter W = 1) (
  input clk, input reset, input valid, input ready, input [W-1:0] payload, output kept
);
  reg waiting = 0;
  reg [W-1:0] before;
  always @(posedge clk) begin
    waiting <= valid && !ready && !reset;
    before <= payload;
  end
  assign kept = !waiting || (valid && payload == before);
endmodule
