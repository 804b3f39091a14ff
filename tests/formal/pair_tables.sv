// A row's tables, with stalls: the activations of the last load, the sums of their pairs and, a stage later, of all.
module harness (input clk, input enable, input load, input [127:0] word);
  wire [127:0] single;
  wire [71:0] both;
  wire [11:0] total;
  wire [13:0] triple;
  pair_tables dut (.*);

  wire [127:0] x, x2;
  wire [71:0] both3;
  wire loaded, there, known;
  later #(1, 129) operands (clk, enable && load, {1'b1, word}, {loaded, x});
  later #(`CHOICES - 1, 129) shown (clk, enable, {loaded, x}, {there, x2});
  later #(`SUMS - `CHOICES, 73) sums (clk, enable, {there, both}, {known, both3});
  reg [11:0] low, high;
  integer p;
  always @* begin
    low = 0;
    high = 0;
    for (p = 0; p < 4; p = p + 1) begin
      low = low + both3[9*p +: 9];
      high = high + both3[9*p + 36 +: 9];
    end
    if (there) begin
      assert (single == x2);
      for (p = 0; p < 8; p = p + 1) assert (both[9*p +: 9] == x2[16*p +: 8] + x2[16*p + 8 +: 8]);
    end
    if (known) assert (total == low + high && triple == 3 * (low + high));
  end
endmodule
