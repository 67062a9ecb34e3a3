package protocol

import "fmt"

// Command says what a frame's payload is.
type Command uint8

// The commands. Those below CmdFirstNew are the ones that every existing client knows. One of
// CmdFirstNew and above is sent only to a peer whose ConnMeta names a Level of at least 1.
const (
	CmdHeartbeat     Command = 0x01
	CmdConnMeta      Command = 0x02
	CmdConnAuthAck   Command = 0x03
	CmdStoreAck      Command = 0x04
	CmdDeliverAck    Command = 0x05
	CmdTxAck         Command = 0x06
	CmdBytesMessage  Command = 0x11
	CmdStringMessage Command = 0x12
	CmdFirstNew      Command = 0x20
	CmdTxReceipt     Command = 0x20 // Level 1: the broker's answer to a verdict
)

func (c Command) String() string {
	switch c {
	case CmdHeartbeat:
		return "heartbeat"
	case CmdConnMeta:
		return "connMeta"
	case CmdConnAuthAck:
		return "connAuthAck"
	case CmdStoreAck:
		return "storeAck"
	case CmdDeliverAck:
		return "deliverAck"
	case CmdTxAck:
		return "txAck"
	case CmdBytesMessage:
		return "bytesMessage"
	case CmdStringMessage:
		return "stringMessage"
	case CmdTxReceipt:
		return "txReceipt"
	}
	return fmt.Sprintf("command 0x%02x", uint8(c))
}

// opens tells whether an existing client may send c as the first frame of a connection: after a
// reconnect a Go client flushes what it had queued before it sends ConnMeta.
func (c Command) opens() bool {
	return c >= CmdHeartbeat && c <= CmdTxAck || c == CmdBytesMessage || c == CmdStringMessage
}

// The statuses of a TxAck.
const (
	StatusUnknown  int32 = 0 // the broker's check, or a client that cannot tell yet
	StatusCommit   int32 = 1
	StatusRollback int32 = 2
)
