// The output port keeps a handshake's rule: a write stays as it is until it is taken, once. What takes the results, too, gets
// none while it is full, which it becomes only with the last of a tile.
module harness (
  input clk, input reset, input [`RESULTS-1:0] results, input [`LANES-1:0] lanes_valid, input [31:0] base,
  input [1:0] plane, input tile_done, input block_done, input [`SETTINGS-1:0] settings,
  input [64*`LANES-1:0] parameter_word, input [16*`LANES-1:0] index_word, input output_ready, input full
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
  always @* assert (output_valid == 0 || !output_ready || advance); // none is taken twice
  always @* assert (!full || (leaving == 0 && !tiles_done));

  reg might_fill = 0;
  always @(posedge clk) might_fill <= full || tiles_done;
  always @* assume (!full || might_fill);
endmodule
