// The window of an array row: the cursor's, then `ROWS windows on for each tile, one after the other as in the nested
// loops of the walk: anew at the left end of the next row of windows where a row ends. `tile_*` are what so many
// windows make, as scheduling has them, `wrap_*` the same where a row of windows ends among them (walker.sv); `few` of
// windows in a row, 0: more than `ROWS. A tap is where window and tap say, and present if that lies in the map.
module window_after (
  input [71:0] at, input [15:0] windows, input [23:0] step_word, input [15:0] step_x, input [15:0] step_y,
  input [23:0] wrap_word, input [15:0] wrap_x, output [71:0] next
);
  wire [15:0] window, x, y;
  wire [23:0] word;
  assign {window, y, x, word} = at;
  wire ends = window == windows - 16'd1;
  wire [15:0] next_x = x + step_x;
  wire [23:0] next_word = word + step_word;
  assign next = {
    ends ? 16'd0 : window + 16'd1, ends ? y + step_y : y, ends ? next_x - wrap_x : next_x,
    ends ? next_word + wrap_word : next_word
  };
endmodule

module harness (
  input clk, input take, input advance, input [2:0] few, input [15:0] windows, input [23:0] step_word,
  input [15:0] step_x, input [15:0] step_y, input [23:0] wrap_word, input [15:0] wrap_x,
  input [23:0] cursor_word, input [15:0] cursor_x, input [15:0] cursor_y, input [15:0] cursor_window,
  input [15:0] height, input [15:0] width, input [23:0] tap_word, input [15:0] tap_x, input [15:0] tap_y
);
  wire [2:0] ends = few == 0 ? 0 : `ROWS / few; // of rows of windows, at least, in `ROWS windows
  wire [15:0] tile_windows = few == 0 ? `ROWS : `ROWS % few;
  wire [23:0] tile_word = `ROWS * step_word + ends * wrap_word;
  wire [15:0] tile_x = `ROWS * step_x - ends * wrap_x;
  wire [15:0] tile_y = ends * step_y;
  wire [23:0] address;
  wire present;
  lane dut (
    .*, .wrap_from(windows - tile_windows), .wrap_window(tile_windows - windows), .wrap_word(tile_word + wrap_word),
    .wrap_x(tile_x - wrap_x), .wrap_y(tile_y + step_y)
  );

  (* hierconn *) wire [23:0] \dut.word ;
  (* hierconn *) wire [15:0] \dut.x , \dut.y , \dut.window ;
  wire [71:0] now = {\dut.window , \dut.y , \dut.x , \dut.word };
  wire [71:0] at [0:`ROWS];
  assign at[0] = now;
  genvar j;
  generate
    for (j = 0; j < `ROWS; j = j + 1) begin : on
      window_after next (at[j], windows, step_word, step_x, step_y, wrap_word, wrap_x, at[j+1]);
    end
  endgenerate
  reg known = 0;
  reg [71:0] expected;
  always @(posedge clk) begin
    known <= now[71:56] < windows;
    expected <= take ? {cursor_window, cursor_y, cursor_x, cursor_word} : advance ? at[`ROWS] : now;
  end
  wire [15:0] at_x = \dut.x + tap_x, at_y = \dut.y + tap_y;
  always @* begin
    assume (few <= `ROWS && (few == 0 ? windows > `ROWS : windows == few));
    if (known) assert (now == expected);
    assert (address == \dut.word + tap_word);
    assert (present == (at_x < width && at_y < height));
  end
endmodule
