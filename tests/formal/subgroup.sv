// A sub-group, with stalls: whatever is chosen is added, or subtracted from the sum of all that comes with it.
module harness (
  input clk, input enable, input [63:0] x, input [11:0] choice, input [10:0] total, input invert
);
  wire [10:0] selected;
  subgroup dut (.*);

  reg [10:0] sum;
  integer i;
  always @* begin
    sum = 0;
    for (i = 0; i < 4; i = i + 1) sum = sum + (choice[3*i +: 3] <= 4 ? x[8*(i + choice[3*i +: 3]) +: 8] : 8'd0);
  end
  wire [10:0] taken;
  wire known;
  later #(`SUMS - `CHOICES, 12) sums (clk, enable, {1'b1, sum}, {known, taken});
  always @* if (known) assert (selected == (invert ? total - taken : taken));
endmodule
