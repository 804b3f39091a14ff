// The bit-parallel element: of a row's eight activations the chosen one, times its weight.
module harness (
  input clk, input enable, input [63:0] word, input [2:0] index, input [7:0] weight1,
  input valid, first, input capture, drain, input [31:0] behind
);
  wire [7:0] x, weight;
  wire [31:0] result;
  byte_select select (.clk(clk), .enable(enable), .word(word), .index(index), .chosen(x));
  later #(1, 8) operand (clk, enable, weight1, weight);
  parallel_pe dut (.clk(clk), .enable(enable), .x(x), .weight(weight), .valid(valid), .first(first),
    .capture(capture), .drain(drain), .behind(behind), .result(result));

  (* hierconn *) wire signed [8:0] \dut.activation ;
  (* hierconn *) wire signed [7:0] \dut.factor ;
  (* hierconn *) wire signed [20:0] \dut.term ;
  wire [63:0] word2;
  wire [2:0] index2;
  wire known, multiplied;
  wire signed [16:0] product, now = \dut.activation * \dut.factor ;
  later #(1, 68) operands (clk, enable, {1'b1, word, index}, {known, word2, index2});
  later #(2, 18) terms (clk, enable, {known, now}, {multiplied, product});
  always @* begin
    if (known) begin
      assert (\dut.activation == {1'b0, word2[8 * index2 +: 8]});
      assert (\dut.factor == $signed(weight));
    end
    if (multiplied) assert (\dut.term == product);
  end
endmodule
