// What the rows of the normalizer get, with any stalls: the octets of a step's word, and the fields of the block that
// is issued, each at its stage; the channel that is given, with the shift and sign of its block, when its result is
// there; the words of a block of constants in order, without the last one, each a cycle after it is read.
module harness (
  input clk, input reset, input enable, input take, input normalize, input applies, input softmax,
  input [20:0] factor_low, input [20:0] factor_high, input constants, input valid, input first, input load,
  input [64*`ROWS-1:0] word, input read, input ends, input [63:0] brought
);
  wire [7:0] gives;
  wire [32*`ROWS-1:0] given;
  wire holds3, holds4;
  normalizer dut (.*);

  (* hierconn *) wire [20:0] \dut.next_low , \dut.next_high , \dut.this_low , \dut.this_high ;
  (* hierconn *) wire \dut.next_normalize , \dut.next_applies , \dut.next_softmax ;
  (* hierconn *) wire \dut.this_normalize , \dut.this_applies , \dut.this_softmax ;
  reg [44:0] next, now, fields1; // of the next block, of the one that is issued, of the step
  reg [64*`ROWS-1:0] octets;
  reg running = 0, stepped = 0, due = 0;
  reg [7:0] number = 0; // of the next constant
  always @(posedge clk) begin
    running <= 1;
    if (take) next <= {normalize, applies, softmax, factor_high, factor_low};
    if (enable) begin
      now <= next;
      if (load) {stepped, octets, fields1} <= {1'b1, word, now};
    end
    due <= !reset && constants && read && !ends;
    number <= reset || (constants && read && ends) ? 0 : number + due;
  end
  wire normalize1 = fields1[44], applies1 = fields1[43], softmax1 = fields1[42];
  wire [20:0] high1 = fields1[41:21], low1 = fields1[20:0];

  (* hierconn *) wire \dut.norm_control0.valid , \dut.norm_control0.first , \dut.norm_control0.normalizes ;
  (* hierconn *) wire \dut.norm_control0.applies , \dut.norm_control0.softmax ;
  (* hierconn *) wire [20:0] \dut.norm_control0.low , \dut.norm_control0.high ;
  (* hierconn *) wire [7:0] \dut.norm_control0.gives ;
  wire [44:0] control = {
    \dut.norm_control0.normalizes , \dut.norm_control0.applies , \dut.norm_control0.softmax ,
    \dut.norm_control0.high , \dut.norm_control0.low
  };
  (* hierconn *) wire [63:0] \dut.norm_lane1.octet , \dut.norm_lane1.word ;
  (* hierconn *) wire [7:0] \dut.norm_lane1.zero , \dut.norm_lane1.number ;
  (* hierconn *) wire [12:0] \dut.norm_lane1.count2 ;
  (* hierconn *) wire \dut.norm_lane1.centred2 , \dut.norm_lane1.softmax2 , \dut.norm_lane1.negative4 , \dut.norm_lane1.write ;
  (* hierconn *) wire [6:0] \dut.norm_lane1.scale4 ;
  (* hierconn *) wire [31:0] \dut.norm_lane1.given ;
  wire [14:0] terms2;
  wire known2, known3, known4, one2, one3, one4, valid1, first1, known1;
  wire [15:0] last4;
  later #(1, 3) steps (clk, enable, {running, valid, first}, {known1, valid1, first1});
  later #(1, 17) firsts (clk, enable, {stepped, normalize1, low1[13], low1[12:0], softmax1}, {known2, one2, terms2});
  later #(1, 2) thirds (clk, enable, {known2, one2}, {known3, one3});
  later #(1, 2) fourths (clk, enable, {known3, one3}, {known4, one4});
  later #(3, 16) results (clk, enable, {\dut.norm_control0.gives , high1[14:8], high1[15]}, last4);
  always @* begin
    assume (reset == !running);
    assume (running || next[41:0] == {\dut.next_high , \dut.next_low });
    assume (running || next[44:42] == {\dut.next_normalize , \dut.next_applies , \dut.next_softmax });
    assume (running || now[41:0] == {\dut.this_high , \dut.this_low });
    assume (running || now[44:42] == {\dut.this_normalize , \dut.this_applies , \dut.this_softmax });
    if (running && known1) assert ({\dut.norm_control0.valid , \dut.norm_control0.first } == {valid1, first1});
    if (stepped) begin
      assert (control == fields1 && \dut.norm_lane1.octet == octets[127:64] && \dut.norm_lane1.zero == high1[7:0]);
    end
    if (known2) assert ({\dut.norm_lane1.centred2 , \dut.norm_lane1.count2 , \dut.norm_lane1.softmax2 } == terms2);
    if (known3) assert (holds3 == one3);
    if (known4) assert (holds4 == one4);
    if (known4) assert ({gives, \dut.norm_lane1.scale4 , \dut.norm_lane1.negative4 } == last4);
    assert (given[63:32] == \dut.norm_lane1.given );
    if (running) assert (\dut.norm_lane1.write == due && \dut.norm_lane1.word == brought);
    if (running && due) assert (\dut.norm_lane1.number == number);
  end
endmodule
