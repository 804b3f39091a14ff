// A row's operands, with stalls: the activations of the last load and, a stage later, their sums.
module harness (input clk, input enable, input load, input [127:0] word);
  wire [63:0] x_low, x_high;
  wire [10:0] sum_low, sum_high, low, high, low3, high3;
  wire [11:0] sum_all;
  row_operand dut (.*);

  wire [127:0] x;
  wire loaded, there, known;
  wire [127:0] x2;
  later #(1, 129) operands (clk, enable && load, {1'b1, word}, {loaded, x});
  later #(`CHOICES - 1, 129) shown (clk, enable, {loaded, x}, {there, x2});
  column_sum dense_low (.x(x2[63:0]), .bits(8'hff), .ones(low));
  column_sum dense_high (.x(x2[127:64]), .bits(8'hff), .ones(high));
  later #(`SUMS - `CHOICES, 23) sums (clk, enable, {there, low, high}, {known, low3, high3});
  always @* begin
    if (there) assert ({x_high, x_low} == x2);
    if (known) assert (sum_low == low3 && sum_high == high3 && sum_all == low3 + high3);
  end
endmodule
