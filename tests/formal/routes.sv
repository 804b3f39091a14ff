// Words between banks and rows. To a row that was granted goes the word of its bank; to another one that of padding, if
// the octet is a new one, else what it was given before. To a bank goes the word of the row that it serves.
module harness (
  input [`ROWS-1:0] granted, input [$clog2(`ROWS)*`ROWS-1:0] sources, input fresh, input [7:0] pad,
  input [64*`ROWS-1:0] read_data, input [64*`ROWS-1:0] held,
  input [64*`ROWS-1:0] words, input [$clog2(`ROWS)*`ROWS-1:0] chosen
);
  wire [64*`ROWS-1:0] word, write_data;
  gather dut (.*);
  spread routes (.*);
  genvar j;
  generate
    for (j = 0; j < `ROWS; j = j + 1) begin : each
      wire [63:0] read = read_data >> 64 * sources[$clog2(`ROWS)*j +: $clog2(`ROWS)];
      wire [63:0] written = words >> 64 * chosen[$clog2(`ROWS)*j +: $clog2(`ROWS)];
      always @* begin
        assert (word[64*j +: 64] == (granted[j] ? read : fresh ? {8{pad}} : held[64*j +: 64]));
        assert (write_data[64*j +: 64] == written);
      end
    end
  endgenerate
endmodule
