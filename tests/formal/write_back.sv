// The output port keeps a handshake's rule: a write that is not taken stays as it is.
module harness (
  input clk, input reset, input [`RESULTS-1:0] results, input [`LANES-1:0] lanes_valid, input [31:0] base,
  input [1:0] plane, input tile_done, input block_done, input [24:0] settings,
  input [64*`LANES-1:0] parameter_word, input [16*`LANES-1:0] index_word, input output_ready
);
  wire advance, tiles_done, blocks_done, quiet;
  wire [`LANES-1:0] output_valid, leaving;
  wire [32*`LANES-1:0] output_addr;
  wire [8*`LANES*`ROWS-1:0] output_data;
  write_back dut (.*);

  wire kept;
  offer #(`LANES + 32*`LANES + 8*`LANES*`ROWS) writes (
    clk, reset, output_valid != 0, output_ready, {output_valid, output_addr, output_data}, kept
  );
  always @* assert (kept);
endmodule
