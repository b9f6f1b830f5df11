/** Device name rules of the kernel's `dev_valid_name`: 1 to 15 bytes, no slash, colon or white space, not `.` or `..`. */
export function checkDeviceName(name: string): string {
  const bytes = Buffer.byteLength(name);
  if (bytes < 1 || bytes > 15 || /[\s/:%]/.test(name) || name === '.' || name === '..') {
    throw new Error(
      `${JSON.stringify(name)} is not a device name: 1 to 15 bytes, no slash, colon, per cent sign or white space`,
    );
  }
  return name;
}
