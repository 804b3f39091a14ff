// A row of the normalizer, from any state: a channel less the byte of zero, the largest one, the sum of channels and
// the sum of what is squared, or of exponentials; the factors of its one multiplier, of a square, of the channels times
// the sum of squares, of the square of the sum, and of a result, n v - c or an exponential times the quotient; a
// result, shifted, rounded half up, as large as 32 bits have room for at most, and with its sign.
module harness (
  input clk, input enable, input [63:0] octet, input [2:0] place_slot, input [5:0] place_written, input [5:0] place_shown,
  input softmax, input applies1, input restart, input compare, input multiply, input take, input subtract,
  input [4:0] pairs, input shift, input add, input lift, input root, input divisor, input divide, input keep,
  input sum2, input sum4, input applies2, input [7:0] zero, input [12:0] count2, input centred2, input softmax2,
  input [6:0] scale4, input negative4, input write, input [7:0] number, input [63:0] word
);
  wire [31:0] given;
  norm_lane dut (.*);

  (* hierconn *) wire signed [62:0] \dut.product4 ;
  (* hierconn *) wire [4:0] \dut.lifted4 ;
`ifdef PROVE_RESULT
  // t = floor(p / 2^s + 1 / 2), s one more than the distance.
  wire [6:0] distance = scale4 - {2'd0, \dut.lifted4 };
  wire signed [127:0] p = \dut.product4 ;
  wire signed [127:0] t = (p + (128'sd1 <<< distance)) >>> distance >>> 1;
  wire signed [127:0] most = t > 128'sd2147483647 ? 128'sd2147483647 : t;
  wire signed [127:0] result = negative4 ? -most : most;
  always @* begin
    assume (distance >= 1 && distance < 64);
    assume (t >= -128'sd2147483648);
    assert (given == result[31:0]);
  end
`else
  (* hierconn *) wire [7:0] \dut.largest , \dut.difference ;
  (* hierconn *) wire signed [8:0] \dut.value2 ;
  (* hierconn *) wire signed [21:0] \dut.centre ;
  (* hierconn *) wire [45:0] \dut.total ;
  (* hierconn *) wire [32:0] \dut.power2 ;
  (* hierconn *) wire [55:0] \dut.kept , \dut.kept2 , \dut.measured ;
  (* hierconn *) wire signed [33:0] \dut.term3 ;
  (* hierconn *) wire signed [29:0] \dut.factor3 ;
  (* hierconn *) wire [28:0] \dut.quotient ;
  (* hierconn *) wire [4:0] \dut.lifted ;
  (* hierconn *) wire \dut.keeps ;
  wire [7:0] code = octet >> 8 * place_slot;
  wire signed [33:0] value = \dut.value2 , centre = \dut.centre , kept_centre = $signed(\dut.kept2 [21:0]);
  wire signed [13:0] channels = count2;
  wire signed [33:0] scaled = channels * \dut.value2 ;
  reg known = 0, enabled, settled;
  reg [7:0] largest;
  reg signed [8:0] value_before;
  reg signed [21:0] sum;
  reg [45:0] total;
  reg signed [33:0] term;
  reg signed [29:0] factor;
  reg signed [62:0] product;
  reg used;
  always @(posedge clk) begin
    known <= 1;
    enabled <= enable;
    used <= enable && (multiply || take || applies2 || sum2);
    largest <= enable && compare && (restart || code > \dut.largest ) ? code : \dut.largest ;
    value_before <= code - zero;
    sum <= !enable ? \dut.centre : restart ? 0 : \dut.centre + (sum2 && centred2 ? \dut.value2 : 9'sd0);
    total <= !enable ? \dut.total : restart ? 0 : \dut.total + (sum4 ? \dut.product4 [45:0] : 46'd0);
    product <= enable ? \dut.term3 * \dut.factor3 : \dut.product4 ;
    if (multiply) {term, factor} <= {21'd0, count2, 1'b0, \dut.total [28:0]};
    else if (take) begin
      term <= centre < 0 ? -centre : centre;
      factor <= centre < 0 ? -centre : centre;
    end else if (applies2) begin
      term <= softmax2 ? {1'b0, \dut.power2 } : scaled - kept_centre;
      factor <= \dut.kept2 [50:22];
    end else begin
      term <= softmax2 ? {1'b0, \dut.power2 } : value < 0 ? -value : value;
      factor <= softmax2 ? 1 : value < 0 ? -value : value;
    end
  end
  always @* begin
    assume (\dut.centre != 22'h200000); // a sum of at most 4,096 channels is smaller
    assert (\dut.difference == (applies1 ? \dut.kept [7:0] : \dut.largest ) - code);
    assert (\dut.keeps == (enable && keep));
    assert (\dut.measured == {\dut.lifted , \dut.quotient , softmax2 ? {14'd0, \dut.largest } : \dut.centre });
    if (known) begin
      assert (\dut.largest == largest && \dut.centre == sum && \dut.total == total && \dut.product4 == product);
      if (enabled) assert ($signed(\dut.value2 ) == value_before);
      if (used) assert (\dut.term3 == term && \dut.factor3 == factor);
    end
  end
`endif
endmodule
