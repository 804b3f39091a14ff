// Three bits of a group's constant d times the sum of the activations, for each of the 64 constants; and both pieces'
// products make the product with d.
module harness (input [11:0] total, input signed [5:0] d);
  wire signed [16:0] low_product, high_product;
  constant_multiplier dut (.total(total), .piece(d[2:0]), .high(1'b0), .product(low_product));
  constant_multiplier dut_high (.total(total), .piece(d[5:3]), .high(1'b1), .product(high_product));

  wire signed [19:0] sum = total;
  always @* begin
    assert (low_product == sum * $signed({1'b0, d[2:0]}));
    assert (high_product == sum * $signed(d[5:3]));
    assert (low_product + (high_product <<< 3) == sum * d);
  end
endmodule
