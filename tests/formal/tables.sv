// The table of an element-wise function, followed at one byte, any: the words that a block brings are its words in
// order, without the last one, each shown a cycle after it is read. A result that goes through has its low byte
// replaced by the table's, in the copy of each row; another one stays as it is.
module harness (
  input clk, input reset, input fill, input read, input ends, input [63:0] word, input [24*`ROWS-1:0] above
);
  (* anyconst *) wire [7:0] index;
  (* anyconst *) wire through;
  wire [32*`ROWS-1:0] sums, results;
  tables dut (.*);

  reg [4:0] number = 0; // of the next word
  reg due = 0, known = 0, running = 0;
  reg [7:0] kept;
  always @(posedge clk) begin
    running <= 1;
    due <= !reset && fill && read && !ends;
    number <= reset || (fill && read && ends) ? 0 : number + due;
    if (due && number == index[7:3]) begin
      kept <= word[8*index[2:0] +: 8];
      known <= 1;
    end
  end
  genvar j;
  generate
    for (j = 0; j < `ROWS; j = j + 1) begin : row
      assign sums[32*j +: 32] = {above[24*j +: 24], index};
      always @* if (known || !through)
        assert (results[32*j +: 32] == {above[24*j +: 24], through ? kept : index});
    end
  endgenerate
  (* hierconn *) wire [4:0] \dut.number ;
  (* hierconn *) wire \dut.filling ;
  always @* begin
    assume (reset == !running);
    if (running) assert (\dut.number == number && \dut.filling == due);
  end
endmodule
