// Each priority encoder takes the lowest pending activation of its window and no other; the four serve any four.
module harness (input [7:0] pending);
  wire [2:0] code0, code1, code2, code3;
  wire [7:0] left0, left1, left2, left3;
  priority_encoder dut0 (.pending(pending), .code(code0), .left(left0));
  priority_encoder_1 dut1 (.pending(left0), .code(code1), .left(left1));
  priority_encoder_2 dut2 (.pending(left1), .code(code2), .left(left2));
  priority_encoder_3 dut3 (.pending(left2), .code(code3), .left(left3));

  lowest #(0) first (pending, code0, left0);
  lowest #(1) second (left0, code1, left1);
  lowest #(2) third (left1, code2, left2);
  lowest #(3) fourth (left2, code3, left3);

  reg [3:0] count;
  integer i;
  always @* begin
    count = 0;
    for (i = 0; i < 8; i = i + 1) count = count + pending[i];
    if (count <= 4) assert (left3 == 0);
  end
endmodule

module lowest #(parameter POSITION = 0) (input [7:0] pending, input [2:0] code, input [7:0] left);
  wire [4:0] window = pending >> POSITION;
  always @*
    if (window == 0) assert (code == 7 && left == pending);
    else begin
      assert (code <= 4 && window[code] && (window & ((5'd1 << code) - 5'd1)) == 0);
      assert (left == (pending & ~(8'd1 << (POSITION + code))));
    end
endmodule
