/** The code of the XlformersError that `action` throws or rejects with; null when it does neither. Other errors go through. */
export async function codeOf(action: () => unknown): Promise<string | null> {
  try {
    await action();
    return null;
  } catch (error) {
    if ((error as Error).name !== 'XlformersError') throw error;
    return (error as { code: string }).code;
  }
}
