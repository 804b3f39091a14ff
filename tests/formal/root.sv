// A bit of a quotient: what is left is twice what was, less the divisor if that fits, and is below it again. A bit of a
// root: found^2 + rest is the radicand so far, and four times as much with the next two bits then, as (2 found + bit)^2 =
// 4 found^2 + 4 found bit + bit; the bit is as large as it can be if no more than twice what is found is left.
module harness (input root, input [1:0] pair, input [47:0] rest, input [31:0] found, input [45:0] below);
  wire [47:0] left;
  wire [31:0] more;
  root_step dut (.*);
  wire more_is = more[0];
  wire [47:0] taken = root ? {14'd0, found, 2'b01} : {2'd0, below};
  always @* begin
    if (root) assume (!found[31] && rest <= 2 * found);
    else assume (rest < below);
    assert (more[31:1] == found[30:0]);
    assert (left + (more_is ? taken : 48'd0) == (root ? 4 * rest + pair : 2 * rest));
    assert (root ? left <= {15'd0, more, 1'b0} : left < below);
  end
endmodule
