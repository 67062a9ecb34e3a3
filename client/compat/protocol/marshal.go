package protocol

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
)

// The Marshal functions of messages return payloads. One whose required fields are not all set gives nil.

// MarshalConnMeta encodes what a client says first; warmingupSec is in seconds.
func MarshalConnMeta(groupId, secretKey string, warmingupSec int32) []byte {
	return payload(&ConnMeta{GroupId: &groupId, SecretKey: &secretKey, WarmingupSec: &warmingupSec})
}

// MarshalConnAuthAck encodes the broker's answer to a ConnMeta.
func MarshalConnAuthAck(succ bool, feedback string) []byte {
	return payload(&ConnAuthAck{Status: &succ, Feedback: &feedback})
}

// MarshalMessageStoreAck encodes the broker's answer to a published message.
func MarshalMessageStoreAck(messageId string, succ bool, feedback string) []byte {
	return payload(&MessageStoreAck{MessageId: &messageId, Status: &succ, Feedback: &feedback})
}

// MarshalTxACKPacket encodes a verdict.
func MarshalTxACKPacket(header *Header, txstatus TxStatus, feedback string) []byte {
	return payload(&TxACKPacket{Header: header, Status: MarshalPbInt32(int32(txstatus)), Feedback: &feedback})
}

// MarshalHeartbeatPacket encodes a heartbeat.
func MarshalHeartbeatPacket(version int64) []byte { return payload(&HeartBeat{Version: &version}) }

// MarshalDeliverAckPacket encodes a consumer's answer to the message with the header.
func MarshalDeliverAckPacket(header *Header, status bool, feedback string) []byte {
	return payload(&DeliverAck{
		MessageId: header.MessageId, Topic: header.Topic, MessageType: header.MessageType, GroupId: header.GroupId,
		Status: &status, Feedback: &feedback,
	})
}

// MarshalMessage encodes a message; the body is a string for CMD_STRING_MESSAGE and a []byte for
// CMD_BYTES_MESSAGE. Of anything else it makes nil.
func MarshalMessage(header *Header, msgType uint8, body interface{}) []byte {
	switch body := body.(type) {
	case string:
		if msgType == CMD_STRING_MESSAGE {
			return payload(&StringMessage{Header: header, Body: &body})
		}
	case []byte:
		if msgType == CMD_BYTES_MESSAGE {
			if body == nil {
				body = []byte{} // required: empty, not absent
			}
			return payload(&BytesMessage{Header: header, Body: body})
		}
	}
	return nil
}

// MarshalPbMessage encodes any message of this package.
func MarshalPbMessage(message protoadapt.MessageV1) ([]byte, error) {
	data, err := proto.Marshal(protoadapt.MessageV2Of(message))
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", message, err)
	}
	return data, nil
}

// UnmarshalPbMessage decodes data into the message.
func UnmarshalPbMessage(data []byte, msg protoadapt.MessageV1) error {
	if err := proto.Unmarshal(data, protoadapt.MessageV2Of(msg)); err != nil {
		return fmt.Errorf("decode %T: %w", msg, err)
	}
	return nil
}

// MarshalPbString returns a pointer to s, for fields of messages.
func MarshalPbString(s string) *string { return &s }

// MarshalPbInt32 returns a pointer to n.
func MarshalPbInt32(n int32) *int32 { return &n }

// MarshalPbInt64 returns a pointer to n.
func MarshalPbInt64(n int64) *int64 { return &n }

func payload(m protoadapt.MessageV1) []byte {
	data, err := MarshalPbMessage(m)
	if err != nil {
		return nil
	}
	return data
}
