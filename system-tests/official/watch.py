"""Prints, one a line, which instruments the vendor's driver finds and loses: watch.py SECONDS."""

import sys
import time

from pyjoulescope_driver import Driver


def main():
    with Driver() as driver:
        for device in driver.device_paths():
            print("there", device)
            driver.open(device, "defaults")
        for event in ("add", "remove"):
            driver.subscribe(f"@/!{event}", "pub", lambda topic, value: print(topic.rsplit("!")[-1], value))
        time.sleep(float(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
