// A walk begins with the windows of its first tile, one after the other as in its nested loops: array row j takes the
// j-th. From then on windows.sv says where the row is; so its way to the next tile is what the descriptor says, and
// where a row of windows ends on it, the end's too. A row is present if its tap is in the map and there are so many
// windows. The next walk may begin at any time.
module harness (
  input clk, input reset, input restart, input advance, input [311:0] walk,
  input [23:0] tap_word, input [15:0] tap_x, input [15:0] tap_y
);
  wire ready;
  wire [24*`ROWS-1:0] addresses;
  wire [`ROWS-1:0] present;
  walker dut (.*);

  // The job's fields; the window that comes next, how many come before those of the tile; how many rows have theirs.
  reg [311:72] job;
  reg [71:0] first, next;
  reg [24:0] before;
  reg [6:0] given = 0;
  reg begun = 0;
  wire [15:0] windows, step_x, step_y, wrap_x, tile_windows, tile_x, tile_y, height, width;
  wire [23:0] step_word, wrap_word, tile_word, positions;
  assign {
    width, height, positions, tile_y, tile_x, tile_word, tile_windows, wrap_x, wrap_word, step_y, step_x, step_word, windows
  } = job;
  wire [15:0] window, x, y;
  wire [23:0] word;
  assign {window, y, x, word} = next;
  wire ends = window == windows - 16'd1;
  wire [15:0] next_x = x + step_x;
  wire [23:0] next_word = word + step_word;
  reg [71:0] at [0:`ROWS-1];
  always @(posedge clk) begin
    begun <= !reset && (begun || restart);
    given <= restart || reset ? 0 : given + (given != `ROWS);
    if (restart) begin
      {job, next} <= walk;
      before <= 0;
    end else begin
      next <= {
        ends ? 16'd0 : window + 16'd1, ends ? y + step_y : y, ends ? next_x - wrap_x : next_x,
        ends ? next_word + wrap_word : next_word
      };
      if (advance && before < positions) before <= before + `ROWS;
    end
    if (given < `ROWS) at[given] <= next;
  end
  always @* if (begun) begin
    assume (windows != 0 && tile_windows < windows || windows > `ROWS && tile_windows <= windows);
    assume (given != 0 || window < windows);
    assume (!advance || ready);
    assert (ready == (given == `ROWS));
  end

  (* hierconn *) wire [23:0] \dut.word , \dut.left , \dut.lane1.wrap_word ;
  (* hierconn *) wire [23:0] \dut.step_word , \dut.wrap_word , \dut.tile_word ;
  (* hierconn *) wire [15:0] \dut.x , \dut.y , \dut.window , \dut.windows , \dut.step_x , \dut.step_y , \dut.wrap_x ;
  (* hierconn *) wire [15:0] \dut.tile_windows , \dut.tile_x , \dut.tile_y , \dut.height , \dut.width ;
  (* hierconn *) wire [15:0] \dut.lane1.wrap_from , \dut.lane1.wrap_window , \dut.lane1.wrap_x , \dut.lane1.wrap_y ;
  (* hierconn *) wire [6:0] \dut.number ;
  always @* if (begun) begin
    assert (given <= `ROWS && (given == `ROWS || before == 0) && window < windows);
    assert (\dut.number == given && \dut.left == (before < positions ? positions - before : 0));
    assert (\dut.windows == windows && \dut.height == height && \dut.width == width);
    assert (\dut.step_word == step_word && \dut.step_x == step_x && \dut.step_y == step_y);
    assert (\dut.wrap_word == wrap_word && \dut.wrap_x == wrap_x && \dut.tile_windows == tile_windows);
    assert (\dut.tile_word == tile_word && \dut.tile_x == tile_x && \dut.tile_y == tile_y);
    assert ({\dut.window , \dut.y , \dut.x , \dut.word } == next);
    if (given != 0) begin
      assert (\dut.lane1.wrap_from == windows - tile_windows && \dut.lane1.wrap_window == tile_windows - windows);
      assert (\dut.lane1.wrap_word == tile_word + wrap_word && \dut.lane1.wrap_x == tile_x - wrap_x);
      assert (\dut.lane1.wrap_y == tile_y + step_y);
    end
  end

  (* hierconn *) wire [23:0] \dut.lane0.word , \dut.lane1.word ;
  (* hierconn *) wire [15:0] \dut.lane0.x , \dut.lane1.x , \dut.lane0.y , \dut.lane1.y ;
  (* hierconn *) wire [15:0] \dut.lane0.window , \dut.lane1.window ;
  wire [71:0] lane [0:`ROWS-1];
  assign lane[0] = {\dut.lane0.window , \dut.lane0.y , \dut.lane0.x , \dut.lane0.word };
  assign lane[1] = {\dut.lane1.window , \dut.lane1.y , \dut.lane1.x , \dut.lane1.word };
  reg moved = 1;
  always @(posedge clk) moved <= !restart && (moved || advance);
  genvar j;
  generate
    for (j = 0; j < `ROWS; j = j + 1) begin : row
      wire [15:0] at_x = lane[j][39:24] + tap_x, at_y = lane[j][55:40] + tap_y;
      always @* if (begun) begin
        if (given > j && !moved) assert (lane[j] == at[j]);
        if (ready) assert (addresses[24*j +: 24] == lane[j][23:0] + tap_word);
        if (ready) assert (present[j] == (at_x < width && at_y < height && before + j < positions));
      end
    end
  endgenerate
endmodule
