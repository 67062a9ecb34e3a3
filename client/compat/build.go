package compat

import (
	"math/rand/v2"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/compat/protocol"
	wire "github.com/kiteq/kiteq/internal/protocol"
)

// MessageId returns a random message id: 32 hexadecimal digits.
func MessageId() string { return client.NewID() }

// BuildByteMessage returns a message with a random id that never expires and is compressed when it is
// sent. Send it with a client, which fills in its group.
func BuildByteMessage(topic, messageType string, body []byte, commit bool) *protocol.BytesMessage {
	return &protocol.BytesMessage{
		Header: &protocol.Header{
			MessageId: protocol.MarshalPbString(MessageId()), Topic: &topic, MessageType: &messageType,
			ExpiredTime: protocol.MarshalPbInt64(-1), DeliverLimit: protocol.MarshalPbInt32(client.MaxDeliverLimit),
			GroupId: protocol.MarshalPbString(""), Commit: &commit, Fly: new(false),
			CreateTime: protocol.MarshalPbInt64(time.Now().Unix()), Snappy: new(true),
		},
		Body: body,
	}
}

// SendBytesMessage builds a message, sends it with the client, and tells whether it is stored.
func SendBytesMessage(c *KiteQClient, body []byte, topic, messageType string) bool {
	return c.SendBytesMessage(BuildByteMessage(topic, messageType, body, true)) == nil
}

// Compress returns the data as one snappy block. A Send does it by itself.
func Compress(data []byte) ([]byte, error) { return wire.Compress(data, false) }

// Decompress reverses Compress. A body is decompressed before a listener gets it.
func Decompress(data []byte) ([]byte, error) { return wire.Decompress(data, false) }

// Strategy chooses one of the addresses, "" of none. A client's own choice is random and is not set by it.
type Strategy interface {
	Select(addrs []string) string
}

// RandomSelector chooses any of them.
type RandomSelector struct{}

var _ Strategy = RandomSelector{}

// Select returns a random one of the addresses.
func (RandomSelector) Select(addrs []string) string {
	if len(addrs) == 0 {
		return ""
	}
	return addrs[rand.IntN(len(addrs))]
}
