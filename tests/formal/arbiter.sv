// The arbiter of the banks: a row is served only if it asks, none of two that want the same bank, and a row that is not
// served waits for one that is; so all are after as many cycles as there are rows. An enabled bank serves a row that
// was granted, at its line, and every granted row has its bank.
module harness (input clk, input [24*`ROWS-1:0] addresses);
  reg [`ROWS-1:0] pending;
  wire [`ROWS-1:0] granted, enables;
  wire [`LINE_BITS*`ROWS-1:0] lines;
  wire [$clog2(`ROWS)*`ROWS-1:0] chosen;
  arbiter dut (.*);

  reg [$clog2(`ROWS):0] waited = 0;
  always @(posedge clk) begin
    pending <= pending & ~granted;
    waited <= waited + (waited != `ROWS);
  end
  always @* assert (waited != `ROWS || pending == 0);

  genvar i, j, b;
  generate
    for (i = 0; i < `ROWS; i = i + 1) begin : row
      wire [$clog2(`ROWS)-1:0] bank = addresses[24*i +: $clog2(`ROWS)];
      wire [`ROWS-1:0] rivals;
      for (j = 0; j < `ROWS; j = j + 1)
        assign rivals[j] = i != j && granted[j] && addresses[24*j +: $clog2(`ROWS)] == bank;
      always @* begin
        assert (!granted[i] || pending[i]);
        if (pending[i]) assert (granted[i] == (rivals == 0));
        if (granted[i]) assert (enables[bank] && chosen[$clog2(`ROWS)*bank +: $clog2(`ROWS)] == i);
      end
    end
    for (b = 0; b < `ROWS; b = b + 1) begin : bank
      wire [$clog2(`ROWS)-1:0] who = chosen[$clog2(`ROWS)*b +: $clog2(`ROWS)];
      wire [23:0] address = addresses >> 24 * who;
      always @* if (enables[b]) begin
        assert (granted[who] && address[$clog2(`ROWS)-1:0] == b);
        assert (lines[`LINE_BITS*b +: `LINE_BITS] == address[$clog2(`ROWS) +: `LINE_BITS]);
      end
    end
  endgenerate
endmodule
