"""Words that Verilog or VHDL keep for themselves."""

from __future__ import annotations

from myhdl.conversion._VHDLNameValidation import _vhdl_keywords

KEYWORDS = frozenset(_vhdl_keywords) | frozenset(
    """
    always and assign automatic begin buf bufif0 bufif1 case casex casez cell cmos config deassign
    default defparam design disable edge else end endcase endconfig endfunction endgenerate endmodule
    endprimitive endspecify endtable endtask event for force forever fork function generate genvar
    highz0 highz1 if ifnone incdir include initial inout input instance integer join large liblist
    library localparam macromodule medium module nand negedge nmos nor noshowcancelled not notif0 notif1
    or output parameter pmos posedge primitive pull0 pull1 pulldown pullup pulsestyle_onevent
    pulsestyle_ondetect rcmos real realtime reg release repeat rnmos rpmos rtran rtranif0 rtranif1
    scalared showcancelled signed small specify specparam strong0 strong1 supply0 supply1 table task
    time tran tranif0 tranif1 tri tri0 tri1 triand trior trireg unsigned use vectored wait wand weak0
    weak1 while wire wor xnor xor assume context cover elsif fairness postponed property protected
    restrict sequence strong vmode vprop vunit bit byte char const do enum export extern final import
    int interface logic longint new packed priority ref shortint static string struct this typedef union
    unique var void accept_on checker endchecker eventually global implements implies interconnect let
    nettype nexttime reject_on s_always s_eventually s_nexttime s_until s_until_with soft sync_accept_on
    sync_reject_on unique0 until until_with untyped
    bins binsof break chandle class clocking constraint continue coverpoint covergroup cross dist endclass
    endclocking endgroup endinterface endpackage endprogram endproperty endsequence expect extends
    first_match foreach forkjoin iff ignore_bins illegal_bins inside intersect join_any join_none local
    matches modport null package program pure rand randc randcase randsequence return shortreal solve super
    tagged throughout timeprecision timeunit type uwire virtual wait_order wildcard with within
    """.split()  # noqa: SIM905
)
