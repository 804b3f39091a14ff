// Two bit columns a cycle: the cycles of a step, and what the last bit column of its first slice counts.
module harness (input [3:0] columns);
  wire [3:0] slices;
  wire [2:0] first;
  slice_count count (.columns(columns), .slices(slices));
  slice_places dut (.columns(columns), .first(first));
  wire [3:0] full = columns / 2 + columns % 2;
  always @* begin
    assume (columns >= 1 && columns <= 8);
    assert (slices == (columns == 1 ? 1 : columns <= 4 ? 2 : full));
    // The last bit column counts 2^N, N = 8 - columns; each slice before it four times as much as the next.
    assert (first == 8 - columns + 2 * (full - 1));
  end
endmodule
