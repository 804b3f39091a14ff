// Results into the maps, between a walk and collected words that may be any. Of an entry, each row that is present has
// its word written with the entry's mask, to its bank and line, once, and nothing else is written; the next entry is
// taken when all are. A block takes its entries of each of its tiles when the tile is there, rewinds the stream behind
// those of every tile but the last and lets go of these, and goes on by a tile; it is reported once, when its last word
// is on its way.
module harness (
  input clk, input reset, input job, input [311:0] walk, input [15:0] entries, input [23:0] tiles,
  input [`LANES-1:0] valid, input tile_done, input [8*`LANES*`ROWS-1:0] data, input halt,
  input entry_ready, input [103:0] entry
);
  wire job_ready, full, entry_read, entry_rewind, entry_discard, block_done;
  wire [`ROWS-1:0] writes;
  wire [7:0] write_mask;
  wire [`LINE_BITS*`ROWS-1:0] write_lines;
  wire [64*`ROWS-1:0] write_data;
  store dut (.*);

  (* hierconn *) wire \dut.load ;
`ifdef PROVE_WORDS
  (* hierconn *) wire [24*`ROWS-1:0] \dut.addresses , \dut.addresses1 ;
  (* hierconn *) wire [`ROWS-1:0] \dut.present , \dut.pending ;
  (* hierconn *) wire [64*`ROWS-1:0] \dut.collected ;
  (* hierconn *) wire [7:0] \dut.mask ;
  // A cycle before: was an entry taken, where and for which rows; what was owed to which place.
  reg known = 0, loaded;
  reg [`ROWS-1:0] asked, owed;
  reg [24*`ROWS-1:0] asked_at, at;
  reg [64*`ROWS-1:0] word;
  reg [7:0] mask;
  always @(posedge clk) begin
    known <= 1;
    loaded <= \dut.load ;
    asked <= \dut.present ;
    asked_at <= \dut.addresses ;
    owed <= \dut.pending ;
    at <= \dut.addresses1 ;
    word <= \dut.collected ;
    mask <= \dut.mask ;
  end
  wire [`ROWS-1:0] served = loaded ? owed : owed & ~\dut.pending ; // are written now
  always @* begin
    assume (!reset);
    if (known && loaded) assert (\dut.pending == asked && \dut.addresses1 == asked_at);
    if (known && !loaded) assert ((\dut.pending & ~owed) == 0 && (\dut.pending == 0 || \dut.addresses1 == at));
    if (known && owed != 0) assert (served != 0 && write_mask == mask);
  end
  genvar j, b;
  generate
    for (j = 0; j < `ROWS; j = j + 1) begin : row
      wire [$clog2(`ROWS)-1:0] bank = at[24*j +: $clog2(`ROWS)];
      always @* if (known && served[j]) begin
        assert (writes[bank] && write_data[64*bank +: 64] == word[64*j +: 64]);
        assert (write_lines[`LINE_BITS*bank +: `LINE_BITS] == at[24*j + $clog2(`ROWS) +: `LINE_BITS]);
      end
    end
    for (b = 0; b < `ROWS; b = b + 1) begin : bank
      wire [`ROWS-1:0] here;
      for (j = 0; j < `ROWS; j = j + 1) assign here[j] = served[j] && at[24*j +: $clog2(`ROWS)] == b;
      always @* if (known) assert (writes[b] == (here != 0) && (here & here - 1) == 0);
    end
  endgenerate
`else
  (* hierconn *) wire \dut.finished ;
  (* hierconn *) wire [`ROWS-1:0] \dut.remaining ;
  // The next block, if there is one; that under way, if there is one.
  reg waits = 0, runs = 0;
  reg [15:0] next_entries, all;
  reg [23:0] next_tiles;
  reg [23:0] tiles_read, tiles_left; // tiles whose entries are not all read, of which an entry is not yet written
  reg [15:0] entries_read, entries_left; // entries of such a tile that are not
  reg [2:0] there = 0; // tiles
  reg [1:0] ended = 0; // blocks that are not yet reported
  reg due = 0; // such a block, and all is written
  reg running = 0;
  wire takes = job && job_ready;
  wire ends = runs && \dut.finished && tiles_left == 1;
  wire begins = waits && (!runs || ends);
  always @(posedge clk) begin
    running <= 1;
    if (!reset) begin
      waits <= takes || (waits && !begins);
      runs <= begins || (runs && !ends);
      if (takes) {next_entries, next_tiles} <= {entries, tiles};
      if (begins) begin
        {all, tiles_read, tiles_left} <= {next_entries, next_tiles, next_tiles};
        {entries_read, entries_left} <= {2{next_entries}};
      end else begin
        if (entry_read) begin
          entries_read <= entries_read == 1 ? all : entries_read - 1;
          tiles_read <= tiles_read - (entries_read == 1);
        end
        if (\dut.load ) entries_left <= entries_left == 1 ? all : entries_left - 1;
        if (\dut.finished ) tiles_left <= tiles_left - 1;
      end
      there <= there + tile_done - \dut.finished ;
      ended <= ended + ends - block_done;
    end
    due <= !reset && ended != 0 && \dut.remaining == 0;
  end
  always @* begin
    assume (reset == !running);
    assume (!job || tiles != 0);
    assume (!halt && (!full || !tile_done)); // write_back.sv proves that
    if (running) begin
      assert (job_ready == !waits && full == (there == 4));
      // Only entries of this block's tiles that are there; the stream's words stay for the next tile, and go with the last.
      if (entry_read) begin
        assert (entry_ready && runs && tiles_read != 0 && there > tiles_left - tiles_read);
        assert (entry_rewind == (entries_read == 1 && tiles_read != 1) && entry_discard == (tiles_read == 1));
      end
      // A tile ends with its last entry, or at once if it has none.
      if (\dut.load ) assert (runs && \dut.finished == (entries_left == 1));
      if (\dut.finished ) assert (runs && there != 0 && (\dut.load || all == 0));
      // A block is reported after its end, when nothing of it is still to be written.
      assert (!block_done || due);
    end
  end

  (* hierconn *) wire \dut.pending_job , \dut.active , \dut.at_hand , \dut.flushing ;
  (* hierconn *) wire [15:0] \dut.next_entries , \dut.all_entries , \dut.entries_left ;
  (* hierconn *) wire [23:0] \dut.next_tiles , \dut.tiles_left ;
  (* hierconn *) wire [2:0] \dut.staged ;
  always @* if (running) begin
    assert (\dut.pending_job == waits && \dut.active == runs && \dut.staged == there && there <= 4);
    assert (!waits || ({\dut.next_entries , \dut.next_tiles } == {next_entries, next_tiles} && next_tiles != 0));
    assert (ended == \dut.flushing + block_done);
    if (!runs) assert (!\dut.at_hand );
    else begin
      assert (\dut.all_entries == all && \dut.tiles_left == tiles_left && tiles_left != 0);
      if (all == 0) assert (\dut.entries_left == 0 && !\dut.at_hand );
      else if (tiles_read == tiles_left) assert (\dut.entries_left == entries_read && entries_read != 0);
      else assert (tiles_read == tiles_left - 1 && \dut.entries_left == 0 && entries_read == all && \dut.at_hand );
      if (all != 0) assert (entries_left == \dut.entries_left + \dut.at_hand );
      assert (!\dut.at_hand || there != 0);
    end
  end
`endif
endmodule
