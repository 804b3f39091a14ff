// The drain controller in every state: the rules of its streams; the array stands while sums that are finished are not
// captured.
module harness (
  input clk, input reset, input job, input [23:0] tiles, input [15:0] channels, input [31:0] output_base,
  input [23:0] tile_stride, input [15:0] plane_stride, input [24:0] settings,
  input finished, input parameter_ready, input index_ready, input advance
);
  wire job_ready, enable, capture, drain, read, rewind, discard, tile_done, block_done;
  wire [`LANES-1:0] lanes_valid;
  wire [31:0] base;
  wire [1:0] plane;
  wire [24:0] kept_settings;
  drain_control dut (.*);
  always @* begin
    assert (!read || (parameter_ready && index_ready && advance));
    assert (!read || !rewind || !discard);
    assert (enable == (!finished || capture));
    assert (!capture || finished);
    assert (advance || (!drain && lanes_valid == 0));
  end
endmodule
