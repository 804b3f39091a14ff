// A channel of post-processing: the first term of a tile, or the sum of what was before and the next one, or the larger
// of their low bytes; or what a normalizer gives. The result is captured, drained or held. Without products the term is
// the byte times its factor; product_terms.sv has it otherwise.
module harness (
  input clk, input enable, input adds, input first, input maximum, input [20:0] factor, input [7:0] x,
  input capture, input drain, input [`BITS-1:0] behind
`ifdef UNITS
  , input late, input product, input minus, input [7:0] zero_low, input [7:0] zero_high, input [7:0] following,
  input gives, input [31:0] given
`endif
);
  wire [`BITS-1:0] result;
  post_channel dut (.*);

  (* hierconn *) wire [`BITS-1:0] \dut.total ;
`ifdef UNITS
  (* hierconn *) wire signed [30:0] \dut.part ;
`else
  (* hierconn *) wire [28:0] \dut.part ;
  wire gives = 0;
  wire [`BITS-1:0] given = 0;
`endif
  wire signed [33:0] term = \dut.part ;
  wire [7:0] new = term[7:0], old = \dut.total [7:0];
  wire [`BITS-1:0] sum = (first ? 0 : \dut.total ) + term[`BITS-1:0], most = first || new > old ? new : \dut.total ;
  reg known = 0, multiplied;
  reg [`BITS-1:0] total, expected;
  reg [28:0] product_before;
  always @(posedge clk) begin
    known <= 1;
    total <= !enable ? \dut.total : gives ? given : adds ? (maximum ? most : sum) : \dut.total ;
    expected <= capture ? \dut.total : drain ? behind : result;
    multiplied <= enable;
    product_before <= x * factor;
  end
  always @* if (known) begin
    assert (\dut.total == total && result == expected);
`ifndef UNITS
    if (multiplied) assert (\dut.part == product_before);
`endif
  end
endmodule
