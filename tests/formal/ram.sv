// A buffer, followed at one address, any: what was written there last is read, at the very edge of the write, too,
// and shown until the next read.
module harness (
  input clk, input write, input [1:0] write_addr, input [`WIDTH-1:0] write_data, input read, input [1:0] read_addr
);
  wire [`WIDTH-1:0] read_data;
  ram dut (.*);

  (* hierconn *) wire [`WIDTH-1:0] \dut.memory[0] , \dut.memory[1] , \dut.memory[2] , \dut.memory[3] ;
  wire [4*`WIDTH-1:0] memory = {\dut.memory[3] , \dut.memory[2] , \dut.memory[1] , \dut.memory[0] };
  (* anyconst *) wire [1:0] address;
  reg [`WIDTH-1:0] kept, shown;
  reg written = 0, known = 0;
  wire writes = write && write_addr == address;
  always @(posedge clk) begin
    if (writes) begin
      kept <= write_data;
      written <= 1;
    end
    if (read) begin
      shown <= writes ? write_data : kept;
      known <= read_addr == address && (writes || written);
    end
  end
  always @* begin
    if (written) assert (memory[`WIDTH * address +: `WIDTH] == kept);
    if (known) assert (read_data == shown);
  end
endmodule
