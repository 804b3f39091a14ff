// The quotient of a position, from any state that its steps lead to. The radicand is a product, less one, plus the
// offset, or moved by a power of two of pairs of bits; lifted, only if none of its bits is lost, and so counted. Two
// bits of a root are found in a cycle: found^2 + rest is the radicand so far, before and after, and no more than twice
// what is found is left; or two bits of a quotient: what is left is four times what was, less as many divisors, and is
// below the divisor again.
module harness (
  input clk, input enable, input softmax, input restart, input take, input subtract, input [2:0] power,
  input shift, input add, input lift, input root, input divisor, input divide,
  input [45:0] product, input [63:0] offset, input [45:0] total
);
  wire [4:0] pairs = 1 << power;
  wire [28:0] quotient;
  wire [4:0] lifted;
  norm_root dut (.*);

  (* hierconn *) wire [63:0] \dut.radicand ;
  (* hierconn *) wire [47:0] \dut.rest ;
  (* hierconn *) wire [31:0] \dut.found ;
  (* hierconn *) wire [45:0] \dut.below ;
  wire [127:0] wide = \dut.radicand , moved = wide << 2 * pairs;
  wire [63:0] radicand =
    take ? {18'd0, product} : subtract ? \dut.radicand - product : add ? \dut.radicand + offset
    : shift || (lift && moved[127:64] == 0) ? moved[63:0] : \dut.radicand ;
  wire lifts = !take && !subtract && !add && !shift && lift && moved[127:64] == 0;
  wire begins = enable && (add || divisor);
  // Before an enabled edge.
  reg known = 0, steps, rooted;
  reg [63:0] expected;
  reg [4:0] count;
  reg [45:0] below;
  reg [47:0] rest;
  reg [31:0] found;
  reg [3:0] bits;
  always @(posedge clk) begin
    known <= 1;
    steps <= enable && !begins && (root || divide);
    rooted <= root;
    expected <= enable ? radicand : \dut.radicand ;
    count <= !enable ? lifted : (restart ? 0 : lifted) + (lifts ? pairs : 0);
    below <= !enable || !divisor ? \dut.below : softmax ? total : {\dut.found , 1'b0};
    rest <= begins ? (divisor ? 48'd1 << 30 : 0) : \dut.rest ;
    found <= begins ? 0 : \dut.found ;
    bits <= \dut.radicand [63:60];
  end
  wire [1:0] new = \dut.found [1:0];
  wire [47:0] square = {13'd0, found, 3'd0} * new + new * new; // (4 found + new)^2 - 16 found^2
  always @* begin
    assume (power < 5 && (!restart || !lift) && (!root || !divide));
    assume (known || (root ? !\dut.found [31:30] && \dut.rest <= 2 * \dut.found : \dut.rest < \dut.below ));
    assert (quotient == \dut.found [28:0]);
    if (known) begin
      assert (\dut.radicand == expected && lifted == count && \dut.below == below);
      if (!steps) assert (\dut.rest == rest && \dut.found == found);
      else begin
        assert (\dut.found [31:2] == found[29:0]);
        if (rooted) assert (\dut.rest + square == 16 * rest + bits && \dut.rest <= 2 * \dut.found );
        else assert (\dut.rest + new * below == 4 * rest && \dut.rest < \dut.below );
      end
    end
  end
endmodule
