// The compute controller keeps the rules of its streams in every state: no read without a word, none while the array
// stands, no rewinding and releasing at once.
module harness (
  input clk, input reset, input job, input [23:0] tiles, input [15:0] steps, input [3:0] columns, input hold,
  input resident, input post, input enable, input weight_ready, input metadata_ready, input activation_ready
);
  wire job_ready, weight_read, weight_rewind, weight_release, metadata_read, metadata_rewind, metadata_release;
  wire activation_read, activation_rewind, activation_release, valid, first, last, load, high_phase;
  wire [2:0] significance;
  sequencer dut (.*);
`ifdef DENSE
  always @* assume (!metadata_ready); // a dense element's metadata stream gets no words
`endif
  always @* begin
    assert (!weight_read || (weight_ready && enable));
    assert (!metadata_read || (metadata_ready && enable));
    assert (!activation_read || (activation_ready && enable));
    assert (!weight_read || !weight_rewind || !weight_release);
    assert (!metadata_read || !metadata_rewind || !metadata_release);
    assert (!activation_read || !activation_rewind || !activation_release);
  end
endmodule
