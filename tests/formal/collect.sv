// Channels of finished tiles, followed at one column of one tile, any: each lane gives a word in turn, a tile's columns
// lane by lane. Of the oldest tile an entry takes eight channels by their columns, or zeros, for every row; a tile's
// channels stay until it is finished.
module harness (
  input clk, input reset, input [`LANES-1:0] valid, input tile_done, input [8*`ROWS*`LANES-1:0] data,
  input load, input finished, input [103:0] entry
);
  wire [64*`ROWS-1:0] words;
  wire [7:0] mask;
  collect dut (.*);

  (* anyconst *) wire [1:0] column;
  (* anyconst *) wire [7:0] tile;
  (* anyconst *) wire [2:0] channel;
  wire lane = column % `LANES, place = column / `LANES;
  reg [7:0] filling = 0, oldest = 0;
  reg [1:0] slot = 0; // words of the tile that fills
  reg known = 0, running = 0;
  reg [8*`ROWS-1:0] content;
  wire [7:0] about = entry >> 8 * channel;
  reg shows = 0, due = 0, writes, shown_mask;
  reg [8*`ROWS-1:0] expected, shown;
  wire [8*`ROWS-1:0] word;
  always @(posedge clk) begin
    running <= 1;
    if (!reset) begin
      slot <= tile_done ? 0 : slot + (valid != 0);
      filling <= filling + tile_done;
      oldest <= oldest + finished;
      if (valid[lane] && slot == place && filling == tile) begin
        content <= data >> 8 * `ROWS * lane;
        known <= 1;
      end
    end
    if (load) begin
      due <= about[6] || (known && oldest == tile && about[5:0] == column);
      expected <= about[6] ? 0 : content;
      shows <= 1;
      shown_mask <= about[7];
    end
  end
  always @* begin
    assume (reset == !running);
    assume (valid == 0 || (slot < 2 && filling - oldest < 4));
    assume (!tile_done || filling - oldest < 4);
    assume (!finished || filling != oldest);
    assume (filling < 200 && column < `COLUMNS);
    assume (!load || filling != oldest);
    if (running && due) assert (word == expected);
    if (running && shows) assert (mask[channel] == shown_mask);
  end
  genvar j;
  generate
    for (j = 0; j < `ROWS; j = j + 1) assign word[8*j +: 8] = words >> 64 * j + 8 * channel;
  endgenerate

  (* hierconn *) wire [1:0] \dut.filling , \dut.oldest ;
  (* hierconn *) wire \dut.slot ;
  (* hierconn *) wire [15:0] \dut.lane_words0.memory[0] , \dut.lane_words0.memory[1] ;
  (* hierconn *) wire [15:0] \dut.lane_words0.memory[2] , \dut.lane_words0.memory[3] ;
  (* hierconn *) wire [15:0] \dut.lane_words0.memory[4] , \dut.lane_words0.memory[5] ;
  (* hierconn *) wire [15:0] \dut.lane_words0.memory[6] , \dut.lane_words0.memory[7] ;
  (* hierconn *) wire [15:0] \dut.lane_words1.memory[0] , \dut.lane_words1.memory[1] ;
  (* hierconn *) wire [15:0] \dut.lane_words1.memory[2] , \dut.lane_words1.memory[3] ;
  (* hierconn *) wire [15:0] \dut.lane_words1.memory[4] , \dut.lane_words1.memory[5] ;
  (* hierconn *) wire [15:0] \dut.lane_words1.memory[6] , \dut.lane_words1.memory[7] ;
  wire [127:0] memory0 = {
    \dut.lane_words0.memory[7] , \dut.lane_words0.memory[6] , \dut.lane_words0.memory[5] , \dut.lane_words0.memory[4] ,
    \dut.lane_words0.memory[3] , \dut.lane_words0.memory[2] , \dut.lane_words0.memory[1] , \dut.lane_words0.memory[0]
  };
  wire [127:0] memory1 = {
    \dut.lane_words1.memory[7] , \dut.lane_words1.memory[6] , \dut.lane_words1.memory[5] , \dut.lane_words1.memory[4] ,
    \dut.lane_words1.memory[3] , \dut.lane_words1.memory[2] , \dut.lane_words1.memory[1] , \dut.lane_words1.memory[0]
  };
  wire [15:0] kept = (lane ? memory1 : memory0) >> 16 * {tile[1:0], place};
  always @* if (running) begin
    assert (\dut.filling == filling[1:0] && \dut.oldest == oldest[1:0] && \dut.slot == slot[0] && slot <= 2);
    assert (oldest <= filling && filling - oldest <= 4);
    assert (!known || filling > tile || (filling == tile && slot > place));
    if (known && oldest <= tile) assert (kept == content);
  end
endmodule
