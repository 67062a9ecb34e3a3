package protocol

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kiteq/kiteq/internal/kite"
)

var txReceiptLayout = layout{
	name:     "TxReceipt",
	required: 1<<1 | 1<<2,
	fields: []fieldLayout{
		1: {"messageId", protowire.BytesType},
		2: {"code", protowire.VarintType},
		3: {"outcome", protowire.VarintType},
		4: {"decidedBy", protowire.BytesType},
		5: {"decidedAtMs", protowire.VarintType},
	},
}

// TxReceipt is the broker's answer to a verdict of a client of Level 1 and above.
type TxReceipt struct {
	MessageID string // as the verdict wrote it
	// Code is kite.OK when the transaction stands as the verdict says, durably; kite.TxConflict when it
	// stands otherwise, kite.TxUnknown when the broker knows no such transaction, and else why nothing is
	// certain: try again with the same id.
	Code kite.Code
	// Outcome is how the transaction stands; kite.OutcomeUnknown when that is not known.
	Outcome kite.Outcome
	// DecidedBy is who decided, as kite.Note has it; "" when that is not known any more.
	DecidedBy string
	// DecidedMs is when, Unix ms; 0 when that is not known any more.
	DecidedMs int64
}

// DecodeTxReceipt reads the payload of a txReceipt frame.
func DecodeTxReceipt(payload []byte) (TxReceipt, error) {
	var r TxReceipt
	s := scanner{buf: payload}
	for s.next(&txReceiptLayout) {
		switch s.num {
		case 1:
			r.MessageID = string(s.bytes)
		case 2:
			r.Code = kite.Code(s.varint)
		case 3:
			r.Outcome = kite.Outcome(s.varint)
		case 4:
			r.DecidedBy = string(s.bytes)
		case 5:
			r.DecidedMs = int64(s.varint)
		}
	}
	if err := s.finish(&txReceiptLayout); err != nil {
		return TxReceipt{}, err
	}
	return r, nil
}

// AppendTxReceipt appends the answer to a verdict. opaque is the verdict's.
func AppendTxReceipt(dst []byte, f Framing, opaque uint32, r *TxReceipt) []byte {
	dst, mark := f.Begin(dst, opaque, CmdTxReceipt)
	dst = appendBytes(dst, 1, r.MessageID)
	dst = appendInt(dst, 2, int64(r.Code))
	dst = appendInt(dst, 3, int64(r.Outcome))
	if r.DecidedBy != "" {
		dst = appendBytes(dst, 4, r.DecidedBy)
	}
	if r.DecidedMs != 0 {
		dst = appendInt(dst, 5, r.DecidedMs)
	}
	return f.End(dst, mark)
}
