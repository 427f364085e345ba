"""The functions that stand in for libusb, called as rusb calls them: without asynchronous transfers, and with string descriptors."""

import ctypes
import os
import struct
import subprocess
import sys
import unittest

EMULATOR = "js220,serial=000777,seed=5,fault=unplug:300@t4000000;js220,serial=000778"


class Descriptor(ctypes.Structure):
    _fields_ = [
        ("bLength", ctypes.c_uint8),
        ("bDescriptorType", ctypes.c_uint8),
        ("bcdUSB", ctypes.c_uint16),
        ("classes", ctypes.c_uint8 * 3),
        ("bMaxPacketSize0", ctypes.c_uint8),
        ("idVendor", ctypes.c_uint16),
        ("idProduct", ctypes.c_uint16),
        ("bcdDevice", ctypes.c_uint16),
        ("iManufacturer", ctypes.c_uint8),
        ("iProduct", ctypes.c_uint8),
        ("iSerialNumber", ctypes.c_uint8),
        ("bNumConfigurations", ctypes.c_uint8),
    ]


class Libusb(unittest.TestCase):
    """Each test in a process of its own: the instruments are those of the process."""

    def in_process(self, name):
        environment = dict(os.environ, WAVEKEEP_EMULATOR=EMULATOR)
        done = subprocess.run(
            [sys.executable, __file__, name], env=environment, capture_output=True, text=True, timeout=30
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_an_instrument_is_found_opened_and_read(self):
        self.in_process("read")

    def test_one_that_is_plugged_in_again_is_another_device(self):
        self.in_process("unplug")


def library():
    usb = ctypes.CDLL(os.environ["WAVEKEEP_PRELOAD"])
    usb.libusb_get_device_list.restype = ctypes.c_ssize_t
    usb.libusb_get_device_list.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    return usb


def devices(usb, context):
    found = ctypes.POINTER(ctypes.c_void_p)()
    count = usb.libusb_get_device_list(context, ctypes.byref(found))
    result = [ctypes.c_void_p(found[nth]) for nth in range(count)]
    usb.libusb_free_device_list(found, 1)
    return result


def publish(topic, value):
    payload = struct.pack("<32sBBBBQ", topic.encode(), 10, 1, 0, 0, value)
    return struct.pack("<I", len(payload) << 16 | 1 << 25) + payload


def opened(usb, context, device):
    handle = ctypes.c_void_p()
    assert usb.libusb_open(device, ctypes.byref(handle)) == 0
    assert usb.libusb_claim_interface(handle, 0) == 0
    return handle


def read():
    usb, context = library(), ctypes.c_void_p()
    assert usb.libusb_init(ctypes.byref(context)) == 0
    found = devices(usb, context)
    assert len(found) == 2
    assert usb.libusb_get_device_address(found[0]) != usb.libusb_get_device_address(found[1])
    descriptor = Descriptor()
    assert usb.libusb_get_device_descriptor(found[0], ctypes.byref(descriptor)) == 0
    assert ctypes.sizeof(descriptor) == 18
    assert (descriptor.idVendor, descriptor.idProduct) == (0x16D0, 0x10BA)
    handle = opened(usb, context, found[0])
    text = ctypes.create_string_buffer(64)
    assert usb.libusb_get_string_descriptor_ascii(handle, descriptor.iSerialNumber, text, 64) == 6
    assert text.value == b"000777"
    # rusb reads strings by control requests, too: first the languages.
    assert usb.libusb_control_transfer(handle, 0x80, 6, 0x0300, 0, text, 64, 100) == 4
    length = usb.libusb_control_transfer(handle, 0x80, 6, 0x0300 | descriptor.iSerialNumber, 0x409, text, 64, 100)
    assert text.raw[2:length].decode("utf-16-le") == "000777"
    other = ctypes.c_void_p()
    assert usb.libusb_open(found[0], ctypes.byref(other)) == 0
    assert usb.libusb_claim_interface(other, 0) == -6, "busy"
    usb.libusb_close(other)

    assert usb.libusb_control_transfer(handle, 0xC0, 1, 0, 0, text, 1, 1000) == 1
    assert usb.libusb_control_transfer(handle, 0xC0, 99, 0, 0, text, 1, 1000) == -9, "stalled"
    count, data = ctypes.c_int(), ctypes.create_string_buffer(32768)
    assert usb.libusb_bulk_transfer(handle, 0x82, data, 32768, ctypes.byref(count), 1000) == 0
    assert count.value == 28 and data.raw[4] == 1, "the answer to CONNECT"
    frame = publish("s/i/ctrl", 1)
    assert usb.libusb_bulk_transfer(handle, 0x01, frame, len(frame), ctypes.byref(count), 1000) == 0
    assert count.value == 48
    samples = 0
    while samples < 200_000:
        assert usb.libusb_bulk_transfer(handle, 0x82, data, 32768, ctypes.byref(count), 1000) == 0
        for at in range(0, count.value, 512):
            head = int.from_bytes(data.raw[at : at + 4], "little")
            if head >> 25 == 21:
                samples += ((head >> 16 & 0x1FF) - 4) // 4
    frame = publish("s/i/ctrl", 0)
    assert usb.libusb_bulk_transfer(handle, 0x01, frame, len(frame), None, 1000) == 0
    while (code := usb.libusb_bulk_transfer(handle, 0x82, data, 512, ctypes.byref(count), 20)) == 0:
        pass
    assert code == -7, "a timeout"
    usb.libusb_close(handle)
    usb.libusb_exit(context)


def unplug():
    usb, context = library(), ctypes.c_void_p()
    assert usb.libusb_init(ctypes.byref(context)) == 0
    events = []
    listener = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(
        lambda _context, device, event, _data: events.append((device, event)) or 0
    )
    assert usb.libusb_hotplug_register_callback(context, 3, 1, -1, -1, -1, listener, None, None) == 0
    before = devices(usb, context)
    assert [(device.value, 1) for device in before] == events, "those that are there are told at once"
    handle = opened(usb, context, before[0])
    data = ctypes.create_string_buffer(512)
    count = ctypes.c_int()
    assert usb.libusb_bulk_transfer(handle, 0x82, data, 512, ctypes.byref(count), 5000) == -4, "gone"
    usb.libusb_close(handle)
    second = (ctypes.c_long * 2)(1, 0)
    while len(events) < 4:
        assert usb.libusb_handle_events_timeout_completed(context, second, None) == 0
    after = devices(usb, context)
    assert events[2:] == [(before[0].value, 2), (after[0].value, 1)]
    assert before[0].value != after[0].value and before[1].value == after[1].value


if __name__ == "__main__":
    {"read": read, "unplug": unplug}[sys.argv[1]]()
