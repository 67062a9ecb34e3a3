package protocol

import "github.com/kiteq/kiteq/internal/protocol/wire"

// The messages of the wire.
type (
	HeartBeat       = wire.HeartBeat
	ConnMeta        = wire.ConnMeta
	ConnAuthAck     = wire.ConnAuthAck
	MessageStoreAck = wire.MessageStoreAck
	DeliverAck      = wire.DeliverAck
	TxACKPacket     = wire.TxACKPacket
	Entry           = wire.Entry
	Header          = wire.Header
	BytesMessage    = wire.BytesMessage
	StringMessage   = wire.StringMessage
)

// The commands of frames.
const (
	CMD_HEARTBEAT         = uint8(0x01)
	CMD_CONN_META         = uint8(0x02)
	CMD_CONN_AUTH         = uint8(0x03)
	CMD_MESSAGE_STORE_ACK = uint8(0x04)
	CMD_DELIVER_ACK       = uint8(0x05)
	CMD_TX_ACK            = uint8(0x06)
	CMD_BYTES_MESSAGE     = uint8(0x11)
	CMD_STRING_MESSAGE    = uint8(0x12)
)

// TxStatus is what became of a transaction, as on the wire.
type TxStatus int32

// The statuses.
const (
	TX_UNKNOWN  TxStatus = 0
	TX_COMMIT   TxStatus = 1
	TX_ROLLBACK TxStatus = 2
)

// NameOfCmd returns the name of a command for logs.
func NameOfCmd(cmd uint8) string {
	switch cmd {
	case CMD_HEARTBEAT:
		return "HeartBeat"
	case CMD_CONN_META:
		return "ConnMeta"
	case CMD_CONN_AUTH:
		return "ConnAuthAck"
	case CMD_MESSAGE_STORE_ACK:
		return "MessageStoreAck"
	case CMD_DELIVER_ACK:
		return "DeliverAck"
	case CMD_TX_ACK:
		return "TxACKPacket"
	case CMD_BYTES_MESSAGE:
		return "BytesMessage"
	case CMD_STRING_MESSAGE:
		return "StringMessage"
	}
	return "unknown"
}
