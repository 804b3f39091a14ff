// A step of post-processing takes two cycles: in the next one that is enabled no stream is read, whatever the block, so
// that its word holds.
module harness (
  input clk, input reset, input job, input [23:0] tiles, input [15:0] steps, input [3:0] columns, input hold,
  input resident, input post, input enable, input weight_ready, input metadata_ready, input activation_ready
);
  wire job_ready, weight_read, weight_rewind, weight_release, metadata_read, metadata_rewind, metadata_release;
  wire activation_read, activation_rewind, activation_release, valid, first, last, load, high_phase;
  wire [2:0] significance;
  sequencer dut (.*);

  reg known = 0, posts, holds = 0; // a job was taken; it is post-processing's; its word is to hold
  always @(posedge clk) begin
    if (job && job_ready) posts <= post;
    known <= !reset && (known || (job && job_ready));
    if (reset) holds <= 0;
    else if (enable) holds <= known && posts && activation_read;
  end
  always @* if (holds) assert (!activation_read && !weight_read && !metadata_read);
endmodule
