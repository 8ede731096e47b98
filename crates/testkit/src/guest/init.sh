#!/bin/busybox sh
# First and only program of a demo guest.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/lib/modules/$module.ko"; done </lib/modules/order

name=unnamed
for word in $(cat /proc/cmdline); do
  case $word in virtflow.vm=*) name=${word#virtflow.vm=} ;; esac
done
hostname "$name"

disks=
for disk in /sys/block/vd*; do
  [ -e "$disk" ] && disks="$disks ${disk##*/}=$(($(cat "$disk/size") / 2048))MiB"
done
memory=$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024))
echo "virtflow guest $name: up, Linux $(uname -r), $(nproc) CPU, $memory MiB usable, disks:${disks:- none}"

# The hypervisor asks for an orderly stop by pressing the power button; no other event is expected.
for events in /dev/input/event*; do
  (
    dd if="$events" of=/dev/null bs=24 count=1 2>/dev/null
    echo "virtflow guest $name: power button pressed, going down"
    sync
    poweroff -f
  ) &
done

while :; do
  echo "virtflow guest $name: up $(cut -d' ' -f1 /proc/uptime) s"
  sleep 1
done
