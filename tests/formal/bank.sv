// A bank, followed at one byte, any: it is what was written there last with its bit of the mask, at the edge of a write
// what was there before, and is shown until the next read.
module harness (
  input clk, input write, input [7:0] mask, input [1:0] write_line, input [63:0] write_data,
  input read, input [1:0] read_line
);
  wire [63:0] read_data;
  bank dut (.*);

  (* hierconn *) wire [63:0] \dut.memory[0] , \dut.memory[1] , \dut.memory[2] , \dut.memory[3] ;
  wire [255:0] memory = {\dut.memory[3] , \dut.memory[2] , \dut.memory[1] , \dut.memory[0] };
  (* anyconst *) wire [1:0] line;
  (* anyconst *) wire [2:0] place;
  reg [7:0] kept, shown;
  reg written = 0, known = 0;
  always @(posedge clk) begin
    if (write && mask[place] && write_line == line) begin
      kept <= write_data[8*place +: 8];
      written <= 1;
    end
    if (read) begin
      shown <= kept;
      known <= read_line == line && written;
    end
  end
  always @* begin
    if (written) assert (memory[64*line + 8*place +: 8] == kept);
    if (known) assert (read_data[8*place +: 8] == shown);
  end
endmodule
